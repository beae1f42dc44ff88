// SPDX-License-Identifier: Apache-2.0

// latency: single spans at a steady rate to the local sink, while the hub takes requests and never answers.
package main

import (
	"flag"
	"fmt"
	"math"
	"sort"
	"sync/atomic"
	"time"
)

func latencyMain(args []string) (bool, error) {
	f := flag.NewFlagSet("latency", flag.ExitOnError)
	var o rig
	o.flags(f)
	rate, seconds := f.Float64("rate", 1000, "requests of one span a second"), f.Float64("secs", 30, "seconds of load")
	conns := f.Int("conns", 8, "connections")
	healthy := f.Bool("hub-answers", false, "let the hub answer, to compare")
	limit := f.Float64("limit", 20, "target of p99, ms")
	f.Parse(args)

	payloads, err := payloadsRead(o.payloads, traces, 1)
	if err != nil {
		return false, err
	}
	sent := make([]atomic.Int64, int(*rate**seconds)+1000)
	took := make([]atomic.Int64, len(sent))
	local, hub := &sink{ids: &idSet{}}, &sink{hang: !*healthy, hold: true}
	local.onID = func(n uint64, at time.Time) {
		if n < uint64(len(sent)) {
			took[n].CompareAndSwap(0, at.UnixNano()-sent[n].Load())
		}
	}
	if err := sinkStart(o.local, local); err != nil {
		return false, err
	}
	defer local.stop()
	if err := sinkStart(o.hub, hub); err != nil {
		return false, err
	}
	defer hub.stop()
	p, err := o.start()
	if err != nil {
		return false, err
	}
	defer p.stop()
	time.Sleep(time.Second)
	cpu0 := p.cpu()
	load := loadRun(loadOptions{at: o.in, payloads: payloads, rate: *rate, seconds: *seconds, conns: *conns, numbered: true,
		onSend: func(n uint64, at time.Time) {
			if n < uint64(len(sent)) {
				sent[n].Store(at.UnixNano())
			}
		}})
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end) && local.total() < load.accepted; {
		time.Sleep(20 * time.Millisecond)
	}
	if p.ended() {
		return false, fmt.Errorf("collectord ended: %s\n%s", p.cmd.ProcessState, tail(p.log))
	}
	var ms []float64
	for i := range took {
		if t := took[i].Load(); t > 0 {
			ms = append(ms, float64(t)/1e6)
		}
	}
	sort.Float64s(ms)
	sort.Float64s(load.answers)
	local.ids.mu.Lock()
	distinct, again := local.ids.distinct, local.ids.again
	local.ids.mu.Unlock()
	var r report
	r.note("accepted, refused, failed", fmt.Sprintf("%d, %d, %d", load.accepted, load.refused, load.failed))
	r.note("spans a second", number(float64(load.accepted)/load.seconds))
	r.check("lost on the way to the local sink", fmt.Sprint(load.accepted-distinct), "0", load.accepted-distinct <= 0 && load.accepted > 0)
	r.note("come twice", fmt.Sprint(again))
	r.note("request to arrival, p50", number(percentile(ms, 50))+" ms")
	p99 := percentile(ms, 99)
	r.check("request to arrival, p99", number(p99)+" ms", "<= "+number(*limit)+" ms", !math.IsNaN(p99) && p99 <= *limit)
	r.note("request to arrival, highest", number(percentile(ms, 100))+" ms")
	r.note("answer, p99", number(percentile(load.answers, 99))+" ms")
	r.note("CPU, share of one core", number(100*(p.cpu()-cpu0)/load.seconds)+" %")
	r.note("peak RSS", number(p.status("VmHWM"))+" MB")
	title := fmt.Sprintf("%.0f spans/s in single requests, the hub hangs", *rate)
	if *healthy {
		title = fmt.Sprintf("%.0f spans/s in single requests, the hub answers", *rate)
	}
	return r.print(title) || o.reportOnly, nil
}
