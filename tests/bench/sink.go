// SPDX-License-Identifier: Apache-2.0

// Where a collector sends to: a server that counts.
package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A sink counts items exactly. Compressed bodies are counted after the load, so that unpacking them takes no time from
// the collector; while they wait they are held, up to holdMax, and beyond it unpacked at once.
type sink struct {
	items    [signals]atomic.Int64
	wire     atomic.Int64 // bytes of bodies as they came
	requests atomic.Int64
	bad      atomic.Int64 // bodies that are not whole OTLP protobuf
	first    atomic.Int64 // when the first and the last body came, nanoseconds
	last     atomic.Int64
	ids      *idSet // set before the start, nil: ids are not looked at
	onID     func(number uint64, at time.Time)
	hang     bool // never answer

	mu      sync.Mutex
	held    []body
	holding int
	hold    bool // count compressed bodies later

	server *http.Server
	quit   chan struct{}
}

type body struct {
	sig  signal
	gzip bool
	raw  []byte
}

const holdMax = 1 << 30

func sinkStart(at string, s *sink) error {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	s.quit = make(chan struct{})
	s.server = &http.Server{Handler: s}
	go s.server.Serve(l)
	return nil
}

func (s *sink) stop() {
	if s.server != nil {
		close(s.quit)
		s.server.Close()
		s.server = nil
	}
}

func (s *sink) total() (n int64) {
	for i := range s.items {
		n += s.items[i].Load()
	}
	return
}

// requestsSpan tells when the first and the last body came.
func (s *sink) requestsSpan() (first, last time.Time) {
	return time.Unix(0, s.first.Load()), time.Unix(0, s.last.Load())
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, err := readAll(r.Body, r.ContentLength)
	at := time.Now()
	if err != nil {
		return // the collector gave up half way: nothing was accepted
	}
	if s.hang {
		select {
		case <-s.quit:
		case <-r.Context().Done():
		}
		return
	}
	s.wire.Add(int64(len(raw)))
	s.requests.Add(1)
	sig, err := signalOfPath(r.URL.Path)
	if err != nil {
		s.bad.Add(1)
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	b := body{sig, r.Header.Get("Content-Encoding") == "gzip", raw}
	if !s.holds(b) {
		s.count(b, at)
	}
	s.first.CompareAndSwap(0, at.UnixNano())
	s.last.Store(at.UnixNano())
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (s *sink) holds(b body) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hold || !b.gzip || s.holding+len(b.raw) > holdMax {
		return false
	}
	s.held = append(s.held, b)
	s.holding += len(b.raw)
	return true
}

// settle counts what is held, and from now on everything at once.
func (s *sink) settle() {
	s.mu.Lock()
	held := s.held
	s.held, s.hold, s.holding = nil, false, 0
	s.mu.Unlock()
	for i := range held {
		s.count(held[i], time.Now())
		held[i].raw = nil
	}
}

var unzippers sync.Pool

func (s *sink) count(b body, at time.Time) {
	raw := b.raw
	if b.gzip {
		z, _ := unzippers.Get().(*gzip.Reader)
		if z == nil {
			z = new(gzip.Reader)
		}
		var out bytes.Buffer
		out.Grow(8 * len(raw))
		err := z.Reset(bytes.NewReader(raw))
		if err == nil {
			_, err = io.Copy(&out, z)
		}
		if err != nil {
			s.bad.Add(1)
			return
		}
		unzippers.Put(z)
		raw = out.Bytes()
	}
	if s.ids != nil {
		s.ids.mu.Lock()
		defer s.ids.mu.Unlock()
	}
	n := int64(0)
	whole := eachItem(b.sig, raw, func(item []byte) {
		n++
		if s.ids == nil && s.onID == nil {
			return
		}
		id := itemID(b.sig, item)
		if id == nil {
			return
		}
		if s.ids != nil {
			s.ids.add(idGet(b.sig, id))
		}
		if s.onID != nil {
			s.onID(idGet(b.sig, id), at)
		}
	})
	if !whole {
		s.bad.Add(1)
	}
	s.items[b.sig].Add(n)
}

func readAll(r io.Reader, n int64) ([]byte, error) {
	if n < 0 || n > 1<<28 {
		return io.ReadAll(r)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}
