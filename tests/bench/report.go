// SPDX-License-Identifier: Apache-2.0

// What every command says at its end: a Markdown table of what was measured, and whether the targets were met.
package main

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// rig is what all commands share: where things are.
type rig struct {
	collectord, config, payloads, logs string
	in, local, hub, web                string
	reportOnly                         bool
}

func (r *rig) flags(f *flag.FlagSet) {
	f.StringVar(&r.collectord, "collectord", "build/bin/collectord", "the binary")
	f.StringVar(&r.config, "config", "tests/bench/collectord.json", "its configuration")
	f.StringVar(&r.payloads, "payloads", "build/bench/payloads", "folder of request bodies")
	f.StringVar(&r.logs, "logs", "build/bench/logs", "folder for what the collectors print")
	f.StringVar(&r.in, "in", "127.0.0.1:4318", "where the collector listens, as its configuration says")
	f.StringVar(&r.local, "local", "127.0.0.1:14320", "where the local sink listens")
	f.StringVar(&r.hub, "hub", "127.0.0.1:14318", "where the hub listens")
	f.StringVar(&r.web, "web", "http://127.0.0.1:12345", "collectord's own HTTP")
	f.BoolVar(&r.reportOnly, "report-only", false, "exit with 0 even when a target is missed")
}

func (r *rig) start() (*process, error) {
	binary, err := filepath.Abs(r.collectord)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("no collectord: %w", err)
	}
	return processStart("collectord", []string{binary, "--config", r.config}, r.logs, r.in)
}

type report struct {
	rows   [][4]string
	missed int
}

// at adds a figure with its highest allowed value.
func (r *report) atMost(what string, value float64, unit string, limit float64) {
	r.check(what, number(value)+" "+unit, "<= "+number(limit)+" "+unit, value <= limit)
}

func (r *report) check(what, value, target string, ok bool) {
	verdict := "met"
	if !ok {
		verdict = "**missed**"
		r.missed++
	}
	r.rows = append(r.rows, [4]string{what, value, target, verdict})
}

func (r *report) note(what, value string) { r.rows = append(r.rows, [4]string{what, value, "", ""}) }

func (r *report) print(title string) bool {
	fmt.Printf("### %s\n\n| | measured | target | |\n|---|---|---|---|\n", title)
	for _, row := range r.rows {
		fmt.Printf("| %s |\n", strings.Join(row[:], " | "))
	}
	fmt.Println()
	return r.missed == 0
}

func number(x float64) string {
	switch a := math.Abs(x); {
	case math.IsNaN(x) || math.IsInf(x, 0):
		return "-"
	case a >= 100 || x == math.Trunc(x):
		return fmt.Sprintf("%.0f", x)
	case a >= 10:
		return fmt.Sprintf("%.1f", x)
	case a >= 1:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.3f", x)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = append([]float64(nil), v...)
	sort.Float64s(v)
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// percentile of sorted values.
func percentile(sorted []float64, p float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	i := int(math.Ceil(p/100*float64(len(sorted)))) - 1
	if i < 0 {
		i = 0
	}
	return sorted[i]
}

func bounds(v []float64) (lowest, highest float64) {
	lowest, highest = math.Inf(1), math.Inf(-1)
	for _, x := range v {
		lowest, highest = math.Min(lowest, x), math.Max(highest, x)
	}
	return
}
