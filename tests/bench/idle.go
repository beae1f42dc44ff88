// SPDX-License-Identifier: Apache-2.0

// idle: what collectord costs when nothing happens, with both destinations up.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func idleMain(args []string) (bool, error) {
	f := flag.NewFlagSet("idle", flag.ExitOnError)
	var o rig
	o.flags(f)
	minutes := f.Float64("minutes", 5, "how long")
	warm := f.Float64("warm", 10, "seconds before, not counted")
	f.Parse(args)

	local, hub := &sink{}, &sink{}
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
	time.Sleep(time.Duration(*warm * 1e9))
	cpu0, wake0, start := p.cpuExact(), p.wakeups(), time.Now()
	for end := start.Add(time.Duration(*minutes * 60e9)); time.Now().Before(end) && !p.ended(); {
		time.Sleep(minDuration(time.Minute, time.Until(end)))
		fmt.Fprintf(os.Stderr, "%4.0f s: RSS %.1f MB, anonymous %.1f MB\n", time.Since(start).Seconds(), p.smaps("Rss"), p.smaps("Anonymous"))
	}
	if p.ended() {
		return false, fmt.Errorf("collectord ended: %s\n%s", p.cmd.ProcessState, tail(p.log))
	}
	seconds := time.Since(start).Seconds()
	var r report
	r.atMost("RSS", p.smaps("Rss"), "MB", 22)
	r.atMost("anonymous memory", p.smaps("Anonymous"), "MB", 6)
	r.note("proportional set size", number(p.smaps("Pss"))+" MB")
	r.note("peak RSS", number(p.status("VmHWM"))+" MB")
	r.atMost("wakeups a second (voluntary context switches)", (p.wakeups()-wake0)/seconds, "", 5)
	r.atMost("CPU, share of one core", 100*(p.cpuExact()-cpu0)/seconds, "%", 0.2)
	return r.print(fmt.Sprintf("idle for %.0f s", seconds)) || o.reportOnly, nil
}

func minDuration(a, b time.Duration) time.Duration {
	if a < b {
		return a
	}
	return b
}
