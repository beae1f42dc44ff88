// SPDX-License-Identifier: Apache-2.0

// What a collector is sent: request bodies over plain HTTP/1.1 connections that cost little themselves.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A payload is one request, head and body in one piece.
type payload struct {
	sig   signal
	items int
	whole []byte // request line, headers, body
	ids   []int  // where in whole the numbers of the items go
}

func request(path, headers string, body []byte) []byte {
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: bench\r\n%sContent-Length: %d\r\n\r\n", path, headers, len(body))
	whole := make([]byte, 0, len(head)+len(body))
	return append(append(whole, head...), body...)
}

// payloadsRead reads DIR/SIGNAL-N-*.pb; the items in each are counted, not believed.
func payloadsRead(dir string, sig signal, n int) ([]payload, error) {
	names, _ := filepath.Glob(filepath.Join(dir, fmt.Sprintf("%s-%d-*.pb", signalNames[sig], n)))
	if len(names) == 0 {
		return nil, fmt.Errorf("no %s-%d-*.pb in %s: payloads.py makes them", signalNames[sig], n, dir)
	}
	var all []payload
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		p := payload{sig: sig, whole: request("/v1/"+signalNames[sig], "Content-Type: application/x-protobuf\r\n", b)}
		if !eachItem(sig, b, func([]byte) { p.items++ }) || p.items == 0 {
			return nil, fmt.Errorf("%s is no %s request", name, signalNames[sig])
		}
		start := len(p.whole) - len(b)
		for _, at := range idPlaces(sig, b[:len(b):len(b)]) {
			p.ids = append(p.ids, start+at)
		}
		all = append(all, p)
	}
	return all, nil
}

// A client is one connection, opened when needed.
type client struct {
	at      string
	timeout time.Duration
	c       net.Conn
	r       *bufio.Reader
}

func (c *client) close() {
	if c.c != nil {
		c.c.Close()
		c.c = nil
	}
}

// do sends one whole request and reads the answer. The status is 0 when there was none.
func (c *client) do(whole []byte) (status int, header http.Header, err error) {
	if c.c == nil {
		if c.c, err = net.DialTimeout("tcp", c.at, c.timeout); err != nil {
			c.c = nil
			return 0, nil, err
		}
		c.r = bufio.NewReaderSize(c.c, 4096)
	}
	c.c.SetDeadline(time.Now().Add(c.timeout))
	// A refusal may come before a large body is read to its end, so the answer is read while that is written.
	var wrote error
	writing := make(chan error, 1)
	large := len(whole) > 256<<10
	if large {
		go func(conn net.Conn) {
			_, err := conn.Write(whole)
			writing <- err
		}(c.c)
	} else {
		_, wrote = c.c.Write(whole)
	}
	r, err := http.ReadResponse(c.r, nil)
	if err == nil {
		_, err = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	if large {
		select {
		case wrote = <-writing:
		case <-time.After(100 * time.Millisecond):
			c.close() // answered and not read to the end: this connection is over
			wrote = <-writing
		}
	}
	if err != nil {
		c.close()
		if wrote != nil {
			err = wrote
		}
		return 0, nil, err
	}
	if r.Close || wrote != nil {
		c.close()
	}
	return r.StatusCode, r.Header, nil
}

type loadOptions struct {
	at       string
	payloads []payload
	rate     float64 // requests a second, 0: as fast as the answers allow
	seconds  float64
	requests int64 // at most, 0: no bound
	conns    int
	numbered bool                              // give every item its number
	onSend   func(number uint64, at time.Time) // before a numbered request leaves: the number of its first item
}

type loadResult struct {
	accepted, refused, failed int64 // items: 200, another status, no answer
	offered                   uint64
	seconds                   float64
	answers                   []float64 // of accepted requests, ms
	statuses                  map[int]int64
	firstError                error
}

// A refused client waits a little, as every client does: without it the bench would measure how fast "503" is said.
const refusedPause = 10 * time.Millisecond

func loadRun(o loadOptions) loadResult {
	var (
		next, number atomic.Int64
		mu           sync.Mutex
		wg           sync.WaitGroup
		all          = loadResult{statuses: map[int]int64{}}
		start        = time.Now()
	)
	one := func() {
		defer wg.Done()
		mine := loadResult{statuses: map[int]int64{}}
		c := &client{at: o.at, timeout: 30 * time.Second}
		defer c.close()
		var scratch []byte
		for {
			// One counter for all connections: a body comes again only after all the others, far outside the 32 KB that gzip looks
			// back. With a counter each, equal bodies meet by chance, more often the slower the collector answers.
			turn := next.Add(1) - 1
			if o.rate > 0 {
				time.Sleep(time.Until(start.Add(time.Duration(float64(turn) / o.rate * 1e9))))
			}
			t := time.Now()
			if t.Sub(start).Seconds() > o.seconds || (o.requests > 0 && turn >= o.requests) {
				break
			}
			p := &o.payloads[int(turn)%len(o.payloads)]
			whole := p.whole
			if o.numbered {
				scratch = append(scratch[:0], p.whole...)
				first := number.Add(int64(len(p.ids))) - int64(len(p.ids))
				for i, at := range p.ids {
					idPut(p.sig, scratch[at:], uint64(first)+uint64(i))
				}
				whole = scratch
				if o.onSend != nil {
					t = time.Now()
					o.onSend(uint64(first), t)
				}
			}
			status, _, err := c.do(whole)
			mine.statuses[status]++
			switch {
			case err != nil:
				mine.failed += int64(p.items)
				if mine.firstError == nil {
					mine.firstError = err
				}
				time.Sleep(refusedPause)
			case status == 200:
				mine.accepted += int64(p.items)
				mine.answers = append(mine.answers, time.Since(t).Seconds()*1000)
			default:
				mine.refused += int64(p.items)
				time.Sleep(refusedPause)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		all.accepted += mine.accepted
		all.refused += mine.refused
		all.failed += mine.failed
		all.answers = append(all.answers, mine.answers...)
		for s, n := range mine.statuses {
			all.statuses[s] += n
		}
		if all.firstError == nil {
			all.firstError = mine.firstError
		}
	}
	for i := 0; i < o.conns; i++ {
		wg.Add(1)
		go one()
	}
	wg.Wait()
	all.seconds = time.Since(start).Seconds()
	all.offered = uint64(number.Load())
	return all
}

func (r *loadResult) statusText() string {
	var parts []string
	for s, n := range r.statuses {
		parts = append(parts, fmt.Sprintf("%d x %d", n, s))
	}
	return strings.Join(parts, ", ")
}
