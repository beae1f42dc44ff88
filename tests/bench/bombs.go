// SPDX-License-Identifier: Apache-2.0

// bombs: requests and clients made to hurt. Each starts a collectord of its own, so that its peak is its own.
package main

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// answered is what a client saw of one request.
type answered struct {
	status int
	took   time.Duration
	err    error
}

func (a answered) String() string {
	if a.err != nil {
		return "no answer: " + a.err.Error()
	}
	return fmt.Sprintf("%d in %s s", a.status, number(a.took.Seconds()))
}

func ask(c *client, whole []byte) answered {
	start := time.Now()
	status, _, err := c.do(whole)
	return answered{status, time.Since(start), err}
}

func gzipOf(size, limit int) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	zeros := make([]byte, 1<<20)
	for n := 0; n < size; n += len(zeros) {
		z.Write(zeros)
	}
	z.Close()
	if b.Len() > limit {
		panic("the bomb came out too large")
	}
	return b.Bytes()
}

// empties is JSON of size bytes that is nearly all "{},".
func empties(before, after string, size int) []byte {
	n := (size - len(before) - len(after)) / 3
	b := append([]byte(before), bytes.Repeat([]byte("{},"), n)...)
	if after != "" {
		b = b[:len(b)-1]
	}
	return append(b, after...)
}

type bomber struct {
	rig
	r      report
	normal payload
	slow   int
	secs   float64
}

// with runs f beside a fresh collectord and two sinks.
func (b *bomber) with(f func(p *process)) error {
	local, hub := &sink{}, &sink{}
	if err := sinkStart(b.local, local); err != nil {
		return err
	}
	defer local.stop()
	if err := sinkStart(b.hub, hub); err != nil {
		return err
	}
	defer hub.stop()
	p, err := b.start()
	if err != nil {
		return err
	}
	defer p.stop()
	time.Sleep(500 * time.Millisecond)
	f(p)
	if p.ended() {
		return fmt.Errorf("collectord ended: %s\n%s", p.cmd.ProcessState, tail(p.log))
	}
	return nil
}

// request sends one body three times, the peak over all; then a normal request must be answered as ever.
func (b *bomber) request(what string, whole []byte, status int, seconds, megabytes float64) error {
	return b.with(func(p *process) {
		c := &client{at: b.in, timeout: 60 * time.Second}
		defer c.close()
		worst := answered{}
		for i := 0; i < 3; i++ {
			a := ask(c, whole)
			if i == 0 || a.err != nil || a.status != status || a.took > worst.took && worst.status == status {
				worst = a
			}
		}
		target, ok := fmt.Sprint(status), worst.err == nil && worst.status == status
		if seconds > 0 {
			target += fmt.Sprintf(", < %s s", number(seconds))
			ok = ok && worst.took.Seconds() < seconds
		}
		b.r.check(what+": answer, worst of 3", worst.String(), target, ok)
		b.r.atMost(what+": peak RSS", p.status("VmHWM"), "MB", megabytes)
		after := ask(&client{at: b.in, timeout: 10 * time.Second}, b.normal.whole)
		b.r.check(what+": a normal request after it", after.String(), "200", after.status == 200)
	})
}

// keepAlive opens n connections, sends a request on each, twice, and leaves them open.
func (b *bomber) keepAlive(n int, megabytes float64) error {
	return b.with(func(p *process) {
		clients := make([]*client, n)
		good := 0
		first := answered{status: 200}
		for round := 0; round < 2; round++ {
			for i := range clients {
				if clients[i] == nil {
					clients[i] = &client{at: b.in, timeout: 5 * time.Second}
				}
				reused := clients[i].c != nil
				a := ask(clients[i], b.normal.whole)
				if a.status == 200 && (round == 0 || reused) {
					good++
				} else if first.status == 200 {
					first = a
				}
			}
		}
		open := 0
		for _, c := range clients {
			if c.c != nil {
				open++
			}
		}
		b.r.check(fmt.Sprintf("%d keep-alive connections: answers 200, two on each", n), fmt.Sprint(good), fmt.Sprint(2*n), good == 2*n)
		if good < 2*n {
			b.r.note("the first other answer", first.String())
		}
		b.r.note("connections still open", fmt.Sprint(open))
		b.r.atMost(fmt.Sprintf("%d keep-alive connections: peak RSS", n), p.status("VmHWM"), "MB", megabytes)
		for _, c := range clients {
			c.close()
		}
	})
}

// slowly opens slow connections that send a byte every few seconds, half of them in the head and half in the body, while
// a normal client works: on one connection of its own, and on a new one each time.
func (b *bomber) slowly() error {
	return b.with(func(p *process) {
		var refused, closed atomic.Int64
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for i := 0; i < b.slow; i++ {
			wg.Add(1)
			go func(i int) {
				defer wg.Done()
				c, err := net.DialTimeout("tcp", b.in, 5*time.Second)
				if err != nil {
					refused.Add(1)
					return
				}
				defer c.Close()
				head := "POST /v1/traces HTTP/1.1\r\nHost: bench\r\nX-Slow: "
				if i%2 == 1 {
					head = "POST /v1/traces HTTP/1.1\r\nHost: bench\r\nContent-Type: application/x-protobuf\r\nContent-Length: 1000000\r\n\r\n"
				}
				if _, err := c.Write([]byte(head)); err != nil {
					closed.Add(1)
					return
				}
				gone := make(chan struct{})
				go func() {
					c.Read(make([]byte, 1)) // an answer or the end: either way this one is over
					close(gone)
				}()
				for {
					select {
					case <-stop:
						return
					case <-gone:
						closed.Add(1)
						return
					case <-time.After(time.Duration(2000+i%1000) * time.Millisecond):
						c.Write([]byte{'!'}) // a header's value goes on, or a body
					}
				}
			}(i)
		}
		time.Sleep(3 * time.Second)
		kept := &client{at: b.in, timeout: 10 * time.Second}
		var asked, good, fresh, freshGood int
		var worst, freshWorst answered
		statuses := map[string]int{}
		for end := time.Now().Add(time.Duration(b.secs * 1e9)); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			a := ask(kept, b.normal.whole)
			asked++
			if a.status == 200 {
				good++
			} else {
				statuses[fmt.Sprintf("%d %v", a.status, a.err)]++
			}
			if a.took > worst.took {
				worst = a
			}
			c := &client{at: b.in, timeout: 10 * time.Second}
			a = ask(c, b.normal.whole)
			c.close()
			fresh++
			if a.status == 200 {
				freshGood++
			} else {
				statuses[fmt.Sprintf("%d %v", a.status, a.err)]++
			}
			if a.took > freshWorst.took {
				freshWorst = a
			}
		}
		kept.close()
		peak, now := p.status("VmHWM"), p.status("VmRSS")
		cut := closed.Load()
		close(stop)
		wg.Wait()
		what := fmt.Sprintf("%d slow connections", b.slow)
		b.r.check(what+": normal client on its own connection, answered 200", fmt.Sprintf("%d of %d, slowest %s", good, asked, worst), "all", good == asked)
		b.r.check(what+": normal client, a new connection each, answered 200", fmt.Sprintf("%d of %d, slowest %s", freshGood, fresh, freshWorst), "all", freshGood == fresh)
		for s, n := range statuses {
			b.r.note("other outcome", fmt.Sprintf("%d x %s", n, s))
		}
		b.r.note(what+": not taken, ended by collectord", fmt.Sprintf("%d, %d", refused.Load(), cut))
		b.r.atMost(what+": peak RSS", peak, "MB", 100)
		b.r.note(what+": RSS at the end", number(now)+" MB")
	})
}

func bombsMain(args []string) (bool, error) {
	f := flag.NewFlagSet("bombs", flag.ExitOnError)
	b := &bomber{}
	b.rig.flags(f)
	f.IntVar(&b.slow, "slow", 1000, "slow connections")
	f.Float64Var(&b.secs, "secs", 20, "seconds of slow connections")
	f.Parse(args)

	normal, err := payloadsRead(b.payloads, traces, 1)
	if err != nil {
		return false, err
	}
	b.normal = normal[0]
	const limit = 20 << 20 // the largest body that is taken
	json := "Content-Type: application/json\r\n"
	bomb := request("/v1/traces", "Content-Type: application/x-protobuf\r\nContent-Encoding: gzip\r\n", gzipOf(1<<30, 2<<20))
	for _, step := range []func() error{
		func() error { return b.request("1 GB of zeros in 1 MB of gzip", bomb, 413, 0, 25) },
		func() error {
			return b.request("20 MiB of `{},`", request("/v1/traces", json, empties("", "", limit)), 400, 0.5, 60)
		},
		func() error {
			return b.request("20 MiB of `{},` in a list that never ends", request("/v1/traces", json, empties(`{"resourceSpans":[`, "", limit)), 400, 0.5, 60)
		},
		func() error {
			return b.request("20 MiB of `{},` in a list of the wrong type", request("/v1/traces", json, empties(`{"resourceSpans":{"a":[`, `]}}`, limit)), 400, 0.5, 60)
		},
		func() error { return b.keepAlive(512, 60) },
		b.slowly,
	} {
		if err := step(); err != nil {
			return false, err
		}
	}
	return b.r.print("requests and clients made to hurt") || b.reportOnly, nil
}
