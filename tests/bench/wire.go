// SPDX-License-Identifier: Apache-2.0

// OTLP on the wire, as far as a bench needs it: how many items a request holds, and where the bytes lie that tell one
// item from the next.
package main

import (
	"encoding/binary"
	"fmt"
	"path"
	"sync"
)

type signal int

const (
	traces signal = iota
	logs
	metrics
	signals
)

var signalNames = [signals]string{"traces", "logs", "metrics"}

func signalOf(name string) (signal, error) {
	for i, s := range signalNames {
		if s == name {
			return signal(i), nil
		}
	}
	return 0, fmt.Errorf("%q is no signal: traces, logs or metrics", name)
}

func signalOfPath(url string) (signal, error) { return signalOf(path.Base(url)) }

// walk calls f with every field of a protobuf message: number, wire type and, for length-delimited and fixed fields, its
// bytes (a part of b). It tells whether b is whole.
func walk(b []byte, f func(num, wire int, val []byte)) bool {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return false
		}
		b = b[n:]
		var val []byte
		switch tag & 7 {
		case 0:
			if _, n = binary.Uvarint(b); n <= 0 {
				return false
			}
		case 1, 5:
			n = 8
			if tag&7 == 5 {
				n = 4
			}
			if n > len(b) {
				return false
			}
			val = b[:n]
		case 2:
			l, m := binary.Uvarint(b)
			if m <= 0 || l > uint64(len(b)-m) {
				return false
			}
			val = b[m : m+int(l)]
			n = m + int(l)
		default:
			return false
		}
		f(int(tag>>3), int(tag&7), val)
		b = b[n:]
	}
	return true
}

// eachItem calls f with each span, log record or number data point of a request. resource_x = 1, scope_x = 2 and item = 2
// in all three signals; a metric holds its points one level down, in the field of its kind (5, 7, 9, 10, 11), field 1.
func eachItem(sig signal, body []byte, f func(item []byte)) bool {
	whole := true
	into := func(b []byte, num int, f func([]byte)) {
		whole = walk(b, func(n, wire int, val []byte) {
			if n == num && wire == 2 {
				f(val)
			}
		}) && whole
	}
	into(body, 1, func(resource []byte) {
		into(resource, 2, func(scope []byte) {
			into(scope, 2, func(item []byte) {
				if sig != metrics {
					f(item)
					return
				}
				whole = walk(item, func(kind, wire int, data []byte) {
					if wire == 2 && (kind == 5 || kind == 7 || kind == 9 || kind == 10 || kind == 11) {
						into(data, 1, f)
					}
				}) && whole
			})
		})
	})
	return whole
}

// itemID is the eight bytes of an item that a numbered request carries its number in: a span's id, a log record's time, a
// data point's integer value.
func itemID(sig signal, item []byte) (id []byte) {
	walk(item, func(num, wire int, val []byte) {
		switch {
		case sig == traces && num == 2 && wire == 2 && len(val) == 8,
			sig == logs && num == 1 && wire == 1,
			sig == metrics && num == 6 && wire == 1:
			id = val
		}
	})
	return
}

// Numbers 0, 1, 2... are written so that the items stay like real ones: span ids look random, times follow each other.
const (
	idFactor = 0x9E3779B97F4A7C15
	idTime   = 1767225600000000000
)

var idInverse = func() uint64 {
	x := uint64(idFactor) // Newton: each step doubles the number of right bits
	for i := 0; i < 6; i++ {
		x *= 2 - idFactor*x
	}
	return x
}()

func idPut(sig signal, at []byte, number uint64) {
	switch sig {
	case traces:
		binary.LittleEndian.PutUint64(at, (number+1)*idFactor)
	case logs:
		binary.LittleEndian.PutUint64(at, idTime+number)
	default:
		binary.LittleEndian.PutUint64(at, number)
	}
}

func idGet(sig signal, at []byte) uint64 {
	x := binary.LittleEndian.Uint64(at)
	switch sig {
	case traces:
		return x*idInverse - 1
	case logs:
		return x - idTime
	}
	return x
}

// idPlaces tells where in body the numbers go.
func idPlaces(sig signal, body []byte) (at []int) {
	eachItem(sig, body, func(item []byte) {
		if id := itemID(sig, item); id != nil {
			at = append(at, cap(body)-cap(id)) // both are parts of one array and end where it ends
		}
	})
	return
}

// idSet remembers which numbers came, and counts those that came again or were never given out.
type idSet struct {
	mu                     sync.Mutex
	bits                   []uint64
	distinct, again, alien int64
}

const idMax = 1 << 32 // numbers above it are nobody's: 512 MB of bits

func (s *idSet) add(n uint64) {
	if n >= idMax {
		s.alien++
		return
	}
	for uint64(len(s.bits)) <= n/64 {
		s.bits = append(s.bits, 0)
	}
	if s.bits[n/64]&(1<<(n%64)) != 0 {
		s.again++
		return
	}
	s.bits[n/64] |= 1 << (n % 64)
	s.distinct++
}

func (s *idSet) has(n uint64) bool {
	return n/64 < uint64(len(s.bits)) && s.bits[n/64]&(1<<(n%64)) != 0
}
