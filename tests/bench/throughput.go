// SPDX-License-Identifier: Apache-2.0

// throughput: each scenario with each collector in turn (A B A B ...), medians, ratios, targets.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"sort"
	"strings"
	"time"
)

type scenario struct {
	name string
	sig  signal
	rate float64 // items a second, 0: saturation
}

var scenarios = []scenario{
	{"spans", traces, 0}, {"spans-50k", traces, 50000},
	{"logs", logs, 0}, {"logs-50k", logs, 50000},
	{"points", metrics, 0}, {"points-50k", metrics, 50000},
}

func (s scenario) title() string {
	what := [signals]string{"spans", "logs", "data points"}[s.sig]
	if s.rate == 0 {
		return what + ", saturated"
	}
	return fmt.Sprintf("%s, %.0f/s", what, s.rate)
}

// A collector under test.
type subject struct {
	name string
	argv []string
	// Targets: ours divided by this peer's. 0: none.
	cpu, rss, wire float64
}

type sample struct {
	Scenario  string  `json:"scenario"`
	Collector string  `json:"collector"`
	Round     int     `json:"round"`
	Accepted  int64   `json:"accepted"`
	Refused   int64   `json:"refused"`
	Failed    int64   `json:"failed"` // no answer: neither accepted nor refused
	Local     int64   `json:"local"`
	Hub       int64   `json:"hub"`
	Lost      int64   `json:"lost"`  // accepted and missing, over both sinks
	Extra     int64   `json:"extra"` // arrived and never accepted, over both sinks
	Again     int64   `json:"again"` // with -ids: arrived twice
	Bad       int64   `json:"bad"`   // bodies the sinks could not read
	Seconds   float64 `json:"seconds"`
	Rate      float64 `json:"items_per_second"`
	CPU       float64 `json:"cpu_s_per_million"`
	Idle      float64 `json:"idle_mb"`
	Peak      float64 `json:"peak_mb"`
	Wire      float64 `json:"hub_bytes_per_item"`
	P99       float64 `json:"answer_p99_ms"`
	Settled   float64 `json:"settled_s"` // from the last request to the last arrival
	Exit      string  `json:"exit"`
}

type throughputOptions struct {
	rig
	perRequest, conns int
	seconds           float64
	ids               bool
}

func throughputOnce(o *throughputOptions, sc scenario, who subject, payloads []payload) (s sample, err error) {
	s = sample{Scenario: sc.name, Collector: who.name}
	local, hub := &sink{hold: true}, &sink{hold: true}
	if o.ids {
		local.ids, hub.ids = &idSet{}, &idSet{}
	}
	defer debug.FreeOSMemory()
	for _, k := range []struct {
		at string
		s  *sink
	}{{o.local, local}, {o.hub, hub}} {
		if err = sinkStart(k.at, k.s); err != nil {
			return
		}
		defer k.s.stop()
	}
	p, err := processStart(who.name, who.argv, o.logs, o.in)
	if err != nil {
		return
	}
	defer func() { s.Exit = p.stop() }()
	time.Sleep(2 * time.Second)
	s.Idle = p.status("VmRSS")
	cpu0 := p.cpu()
	load := loadRun(loadOptions{at: o.in, payloads: payloads, rate: sc.rate / float64(payloads[0].items),
		seconds: o.seconds, conns: o.conns, numbered: o.ids})
	cpu1 := p.cpu()
	ended := time.Now()
	go local.settle()
	go hub.settle()
	arrived := int64(0) // CPU counts until the last arrival; what is missing is waited for 40 s beyond the last step forward
	for step, seen := ended, int64(-1); time.Since(step) < 40*time.Second; time.Sleep(50 * time.Millisecond) {
		wire := local.wire.Load() + hub.wire.Load()
		if last := max64(local.last.Load(), hub.last.Load()); wire != arrived || time.Now().UnixNano()-last < 2e8 {
			arrived, cpu1 = wire, p.cpu()
			continue
		}
		if local.total() >= load.accepted && hub.total() >= load.accepted {
			break
		}
		if now := local.total() + hub.total() + arrived; now != seen {
			seen, step = now, time.Now()
		}
		if p.ended() {
			err = fmt.Errorf("%s ended under load: %s\n%s", who.name, p.cmd.ProcessState, tail(p.log))
			return
		}
	}
	sort.Float64s(load.answers)
	s.Accepted, s.Refused, s.Failed = load.accepted, load.refused, load.failed
	s.Local, s.Hub = local.total(), hub.total()
	for _, got := range []int64{s.Local, s.Hub} {
		s.Lost += max64(0, s.Accepted-got)
		s.Extra += max64(0, got-s.Accepted)
	}
	if o.ids {
		s.Again = local.ids.again + hub.ids.again
		s.Lost = max64(0, s.Accepted-local.ids.distinct) + max64(0, s.Accepted-hub.ids.distinct)
	}
	s.Bad = local.bad.Load() + hub.bad.Load()
	s.Seconds, s.Rate = load.seconds, float64(s.Accepted)/load.seconds
	s.CPU = (cpu1 - cpu0) / (float64(min64(s.Local, s.Hub)) / 1e6)
	s.Peak = p.status("VmHWM")
	s.Wire = float64(hub.wire.Load()) / float64(s.Hub)
	s.P99 = percentile(load.answers, 99)
	s.Settled = math.Max(0, float64(max64(local.last.Load(), hub.last.Load())-ended.UnixNano())/1e9)
	if load.firstError != nil {
		fmt.Fprintf(os.Stderr, "  %s: %s; first error: %v\n", who.name, load.statusText(), load.firstError)
	}
	return
}

func throughputMain(args []string) (bool, error) {
	f := flag.NewFlagSet("throughput", flag.ExitOnError)
	o := &throughputOptions{}
	o.rig.flags(f)
	otelcol, otelcolConfig := f.String("otelcol", "", "the peer otelcol, \"\": without"), f.String("otelcol-config", "tests/bench/peers/otelcol.yaml", "its configuration")
	alloy, alloyConfig := f.String("alloy", "", "the peer Alloy, \"\": without"), f.String("alloy-config", "tests/bench/peers/alloy.alloy", "its configuration")
	only := f.String("collectors", "collectord,otelcol,alloy", "which to run, of those that are there")
	names := f.String("scenarios", "spans,spans-50k,logs,logs-50k", "of spans, logs, points and the same with -50k")
	rounds := f.Int("rounds", 3, "rounds")
	f.Float64Var(&o.seconds, "secs", 8, "seconds of load")
	f.IntVar(&o.perRequest, "items", 100, "items in a request")
	f.IntVar(&o.conns, "conns", 16, "connections")
	f.BoolVar(&o.ids, "ids", false, "number every item and count those that come twice (costs the load generator time)")
	results := f.String("results", "", "append every run to this file, a JSON object a line")
	f.Parse(args)

	var who []subject
	for _, name := range strings.Split(*only, ",") {
		switch name {
		case "collectord":
			binary, err := filepath.Abs(o.collectord)
			if err != nil {
				return false, err
			}
			who = append(who, subject{name: name, argv: []string{binary, "--config", o.config}})
		case "otelcol":
			if *otelcol != "" {
				who = append(who, subject{name: name, argv: []string{*otelcol, "--config", *otelcolConfig}, cpu: 1.0 / 6, rss: 1.0 / 2, wire: 1.15})
			}
		case "alloy":
			if *alloy != "" {
				state, err := os.MkdirTemp("", "bench-alloy-")
				if err != nil {
					return false, err
				}
				defer os.RemoveAll(state)
				who = append(who, subject{name: name, rss: 1.0 / 6, argv: []string{*alloy, "run", "--disable-reporting",
					"--server.http.listen-addr=127.0.0.1:12346", "--storage.path=" + state, *alloyConfig}})
			}
		default:
			return false, fmt.Errorf("%q is no collector: collectord, otelcol, alloy", name)
		}
	}
	var chosen []scenario
	for _, name := range strings.Split(*names, ",") {
		found := false
		for _, sc := range scenarios {
			if sc.name == name {
				chosen, found = append(chosen, sc), true
			}
		}
		if !found {
			return false, fmt.Errorf("%q is no scenario", name)
		}
	}
	if len(who) == 0 {
		return false, fmt.Errorf("none of %s is there", *only)
	}
	var record *os.File
	if *results != "" {
		var err error
		if record, err = os.OpenFile(*results, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err != nil {
			return false, err
		}
		defer record.Close()
	}
	all := map[string][]sample{}
	for _, sc := range chosen {
		payloads, err := payloadsRead(o.payloads, sc.sig, o.perRequest)
		if err != nil {
			return false, err
		}
		for round := 1; round <= *rounds; round++ {
			for _, w := range who {
				s, err := throughputOnce(o, sc, w, payloads)
				if err != nil {
					return false, err
				}
				s.Round = round
				all[sc.name+" "+w.name] = append(all[sc.name+" "+w.name], s)
				fmt.Fprintf(os.Stderr, "%s %d/%d %s: accepted %d refused %d failed %d local %d hub %d, %.0f/s, %.3f CPU-s/M, idle %.1f MB, peak %.1f MB, %.1f B/item, p99 %.1f ms, settled after %.1f s, %s\n",
					sc.name, round, *rounds, w.name, s.Accepted, s.Refused, s.Failed, s.Local, s.Hub, s.Rate, s.CPU, s.Idle, s.Peak, s.Wire, s.P99, s.Settled, s.Exit)
				if record != nil {
					json.NewEncoder(record).Encode(s)
				}
			}
		}
	}
	throughputTable(chosen, who, all, o)
	return throughputRatios(chosen, who, all) || o.reportOnly, nil
}

func column(v []sample, f func(s sample) float64) (out []float64) {
	for _, s := range v {
		out = append(out, f(s))
	}
	return
}

func highest(v []sample, f func(s sample) int64) (n int64) {
	for _, s := range v {
		n = max64(n, f(s))
	}
	return
}

var (
	cpuOf  = func(s sample) float64 { return s.CPU }
	idleOf = func(s sample) float64 { return s.Idle }
	peakOf = func(s sample) float64 { return s.Peak }
	wireOf = func(s sample) float64 { return s.Wire }
)

func throughputTable(chosen []scenario, who []subject, all map[string][]sample, o *throughputOptions) {
	fmt.Printf("Medians; refused, lost and come twice: the worst round. CPU with its lowest and highest. %.0f s of load, %d connections, %d items a request.\n\n", o.seconds, o.conns, o.perRequest)
	fmt.Println("| scenario | collector | delivered | refused | lost | twice | items/s | CPU-s per million delivered at both | idle RSS MB | peak RSS MB | hub bytes/item | answer p99 ms |")
	fmt.Println("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
	for _, sc := range chosen {
		for _, w := range who {
			v := all[sc.name+" "+w.name]
			low, high := bounds(column(v, cpuOf))
			fmt.Printf("| %s | %s | %.0f | %d | %d | %d | %.0f | %s (%s-%s) | %s | %s | %s | %s |\n", sc.title(), w.name,
				median(column(v, func(s sample) float64 { return float64(min64(s.Local, s.Hub)) })),
				highest(v, func(s sample) int64 { return s.Refused + s.Failed }),
				highest(v, func(s sample) int64 { return s.Lost }),
				highest(v, func(s sample) int64 { return s.Extra + s.Again }),
				median(column(v, func(s sample) float64 { return s.Rate })),
				number(median(column(v, cpuOf))), number(low), number(high),
				number(median(column(v, idleOf))), number(median(column(v, peakOf))), number(median(column(v, wireOf))),
				number(median(column(v, func(s sample) float64 { return s.P99 }))))
		}
	}
	fmt.Println()
}

// throughputRatios prints collectord's figures divided by each peer's, and tells whether all targets are met.
func throughputRatios(chosen []scenario, who []subject, all map[string][]sample) bool {
	var r report
	for _, sc := range chosen {
		ours := all[sc.name+" collectord"]
		if ours == nil {
			continue
		}
		r.check(sc.title()+": lost", fmt.Sprint(highest(ours, func(s sample) int64 { return s.Lost })), "0",
			highest(ours, func(s sample) int64 { return s.Lost + s.Bad }) == 0)
		if sc.rate > 0 {
			n := highest(ours, func(s sample) int64 { return s.Refused + s.Failed })
			r.check(sc.title()+": refused", fmt.Sprint(n), "0", n == 0)
		}
		for _, w := range who {
			theirs := all[sc.name+" "+w.name]
			if w.name == "collectord" {
				continue
			}
			for _, t := range []struct {
				what  string
				limit float64
				of    func(s sample) float64
			}{{"CPU", w.cpu, cpuOf}, {"peak RSS", w.rss, peakOf}, {"hub bytes/item", w.wire, wireOf}} {
				ratio := median(column(ours, t.of)) / median(column(theirs, t.of))
				what := fmt.Sprintf("%s: %s / %s", sc.title(), t.what, w.name)
				if t.limit == 0 {
					r.note(what, number(ratio))
				} else {
					r.check(what, number(ratio), "<= "+number(t.limit), ratio <= t.limit)
				}
			}
		}
	}
	return len(r.rows) == 0 || r.print("collectord beside its peers")
}

func max64(a, b int64) int64 {
	if a > b {
		return a
	}
	return b
}

func min64(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}
