// SPDX-License-Identifier: Apache-2.0

// Bench of OTLP collectors: load in, counting sinks out, the cost of the process in between. See README.md.
package main

import (
	"fmt"
	"os"
	"runtime"
)

var commands = []struct {
	name, what string
	run        func(args []string) (ok bool, err error)
}{
	{"throughput", "collectord beside its peers, in turn, with a table of medians", throughputMain},
	{"idle", "memory, wakeups and CPU of collectord with nothing to do", idleMain},
	{"latency", "from request to local sink while the hub hangs", latencyMain},
	{"full", "the hub is away until the buffer is full, then comes back", fullMain},
	{"bombs", "requests and clients made to hurt", bombsMain},
}

func init() {
	runtime.LockOSThread() // Pdeathsig is bound to the thread that starts the process
}

func main() {
	if len(os.Args) > 1 {
		for _, c := range commands {
			if c.name == os.Args[1] {
				ok, err := c.run(os.Args[2:])
				if err != nil {
					fmt.Fprintln(os.Stderr, "bench:", err)
					os.Exit(2)
				}
				if !ok {
					os.Exit(1)
				}
				return
			}
		}
	}
	fmt.Fprintln(os.Stderr, "usage: bench COMMAND [-h]")
	for _, c := range commands {
		fmt.Fprintf(os.Stderr, "  %-12s %s\n", c.name, c.what)
	}
	os.Exit(2)
}
