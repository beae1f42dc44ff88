// SPDX-License-Identifier: Apache-2.0

// full: the hub refuses connections until the buffer is full and beyond; then it comes up, and what was still waiting arrives.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// ledger is what collectord's metrics say of one destination, for one signal.
type ledger struct {
	found             bool
	waiting, dropped  float64
	delivered, offers float64
}

// ledgerRead takes every sample of /metrics that names the destination and the signal and whose name or label tells which
// part of the ledger it is. Tolerant on purpose: metrics that are not there only leave the comparison out.
func ledgerRead(web, destination string, sig signal) (l ledger) {
	c := http.Client{Timeout: 5 * time.Second}
	r, err := c.Get(web + "/metrics")
	if err != nil {
		return
	}
	defer r.Body.Close()
	for s := bufio.NewScanner(io.LimitReader(r.Body, 16<<20)); s.Scan(); {
		line := s.Text()
		if !strings.HasPrefix(line, "collectord_") || !strings.Contains(line, `"`+destination+`"`) || !strings.Contains(line, `"`+signalNames[sig]+`"`) {
			continue
		}
		end := strings.LastIndexByte(line, '}')
		if end < 0 || strings.Contains(line[:end], "byte") || !strings.Contains(line[:end], "item") && !strings.Contains(line[:end], "ledger") {
			continue
		}
		f := strings.Fields(line[end+1:])
		if len(f) == 0 {
			continue
		}
		v, err := strconv.ParseFloat(f[0], 64)
		if err != nil {
			continue
		}
		switch name := line[:end]; {
		case strings.Contains(name, "waiting"), strings.Contains(name, "in_flight"):
			l.found, l.waiting = true, l.waiting+v
		case strings.Contains(name, "dropped"):
			l.dropped += v
		case strings.Contains(name, "delivered"):
			l.delivered += v
		case strings.Contains(name, "offered"):
			l.offers += v
		}
	}
	return
}

func (l ledger) String() string {
	if !l.found {
		return "not shown by /metrics"
	}
	return fmt.Sprintf("offered %.0f, delivered %.0f, waiting and in flight %.0f, dropped %.0f", l.offers, l.delivered, l.waiting, l.dropped)
}

func fullMain(args []string) (bool, error) {
	f := flag.NewFlagSet("full", flag.ExitOnError)
	var o rig
	o.flags(f)
	megabytes := f.Float64("megabytes", 150, "request bytes to send while the hub is away (10^6)")
	pace := f.Float64("pace", 20, "megabytes a second")
	away := f.Duration("away", 0, "keep the hub away at least so long, the load spread over it")
	rest := f.Duration("rest", 10*time.Second, "from the last request to the measure of RSS at rest")
	limit := f.Float64("limit", 130, "target of RSS at rest, MB")
	fits := f.Bool("fits", false, "the load is smaller than the buffer: all of it must arrive")
	wait := f.Duration("wait", 3*time.Minute, "for the drain")
	f.Parse(args)

	payloads, err := payloadsRead(o.payloads, traces, 100)
	if err != nil {
		return false, err
	}
	size := 0.0
	for _, p := range payloads {
		size += float64(len(p.whole)) / float64(len(payloads))
	}
	requests := *megabytes * 1e6 / size
	rate := *pace * 1e6 / size
	if *away > 0 {
		rate = requests / away.Seconds()
	}
	local, hub := &sink{ids: &idSet{}}, &sink{ids: &idSet{}}
	if err := sinkStart(o.local, local); err != nil {
		return false, err
	}
	defer local.stop()
	p, err := o.start()
	if err != nil {
		return false, err
	}
	defer p.stop()

	load := loadRun(loadOptions{at: o.in, payloads: payloads, rate: rate, seconds: requests/rate + 60, requests: int64(requests), conns: 1, numbered: true})
	fmt.Fprintf(os.Stderr, "filled: %d accepted, %d refused, %d failed in %.1f s; local %d; hub %s\n", load.accepted, load.refused, load.failed,
		load.seconds, local.total(), ledgerRead(o.web, "hub", traces))
	time.Sleep(*rest)
	rss, anonymous, peak := p.smaps("Rss"), p.smaps("Anonymous"), p.status("VmHWM")
	cpu0 := p.cpuExact()
	time.Sleep(5 * time.Second)
	restCPU := 100 * (p.cpuExact() - cpu0) / 5
	before := ledgerRead(o.web, "hub", traces)
	if p.ended() {
		return false, fmt.Errorf("collectord ended: %s\n%s", p.cmd.ProcessState, tail(p.log))
	}

	if err := sinkStart(o.hub, hub); err != nil {
		return false, err
	}
	defer hub.stop()
	up := time.Now()
	enough := func() bool { // all that is known to wait came, or nothing came for 10 s after something did
		n := hub.total()
		if before.found && float64(n) >= before.waiting {
			return true
		}
		return n >= load.accepted || n > 0 && time.Now().UnixNano()-hub.last.Load() > 10e9
	}
	for time.Since(up) < *wait && !enough() && !p.ended() {
		time.Sleep(20 * time.Millisecond)
	}
	first, last := hub.requestsSpan()
	time.Sleep(2 * time.Second)
	after := ledgerRead(o.web, "hub", traces)
	hub.ids.mu.Lock()
	defer hub.ids.mu.Unlock()
	gaps, gapFirst, gapLast := 0, uint64(0), uint64(0)
	for n := uint64(0); n < load.offered; n++ {
		if hub.ids.has(n) {
			continue
		}
		if gaps == 0 {
			gapFirst = n
		}
		if gaps == 0 || gapLast+1 < n {
			gaps++
		}
		gapLast = n
	}
	var r report
	r.note("sent", fmt.Sprintf("%s MB, %d spans accepted, %d refused, %d failed", number(*megabytes), load.accepted, load.refused, load.failed))
	r.atMost("RSS at rest, buffer full", rss, "MB", *limit)
	r.note("anonymous memory at rest", number(anonymous)+" MB")
	r.note("peak RSS while it filled", number(peak)+" MB")
	r.note("CPU at rest, hub away", number(restCPU)+" %")
	r.check("local sink, lost", fmt.Sprint(load.accepted-local.total()), "0", load.accepted-local.total() <= 0)
	r.note("ledger of the hub before it came", before.String())
	r.check("arrived at the hub, distinct", fmt.Sprint(hub.ids.distinct), "> 0", hub.ids.distinct > 0)
	r.note("come twice", fmt.Sprint(hub.ids.again))
	if before.found {
		r.check("waiting by the ledger, arrived", fmt.Sprintf("%.0f, %d", before.waiting, hub.ids.distinct), "equal", float64(hub.ids.distinct) == before.waiting)
		r.check("dropped by the ledger, missing", fmt.Sprintf("%.0f, %d", after.dropped, load.accepted-hub.ids.distinct), "equal", after.dropped == float64(load.accepted-hub.ids.distinct))
	}
	// What was in flight when the buffer filled is never trimmed, so the gap may begin behind it.
	r.check("ranges of missing numbers", fmt.Sprint(gaps), "<= 1", gaps <= 1 || load.refused+load.failed > 0)
	if gaps > 0 {
		r.note("missing numbers", fmt.Sprintf("%d to %d of 0 to %d", gapFirst, gapLast, load.offered-1))
	}
	if *fits {
		r.check("missing at the hub", fmt.Sprint(load.accepted-hub.ids.distinct), "0", hub.ids.distinct == load.accepted)
	} else if gaps > 0 {
		r.check("the youngest arrived", fmt.Sprint(hub.ids.has(load.offered-1)), "true", hub.ids.has(load.offered-1))
	}
	r.note("hub up to first arrival, first to last", fmt.Sprintf("%.1f s, %.1f s", first.Sub(up).Seconds(), last.Sub(first).Seconds()))
	r.note("peak RSS after the drain", number(p.status("VmHWM"))+" MB")
	r.note("RSS after the drain", number(p.smaps("Rss"))+" MB")
	return r.print("the hub is away, the buffer is full, the hub comes back") || o.reportOnly, nil
}
