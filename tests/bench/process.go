// SPDX-License-Identifier: Apache-2.0

// The collector as a process: started, waited for, looked at from outside, ended.
package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type process struct {
	cmd    *exec.Cmd
	pid    int
	log    string
	home   string // RUNTIME_DIRECTORY, so that no two collectors share a socket
	exited chan struct{}
}

// processStart runs argv with its output in logs/NAME.log and waits until it listens on addr.
func processStart(name string, argv []string, logs, addr string) (*process, error) {
	if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("%s is taken: another collector runs on this machine (run has --private-net)", addr)
	}
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return nil, err
	}
	p := &process{log: filepath.Join(logs, name+".log"), exited: make(chan struct{})}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	if p.home, err = os.MkdirTemp("", "bench-"); err != nil {
		return nil, err
	}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+p.home, "STATE_DIRECTORY="+p.home)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		os.RemoveAll(p.home)
		return nil, err
	}
	p.pid = p.cmd.Process.Pid
	go func() {
		p.cmd.Wait()
		close(p.exited)
	}()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if p.ended() {
			os.RemoveAll(p.home)
			return nil, fmt.Errorf("%s ended at start: %s\n%s", name, p.cmd.ProcessState, tail(p.log))
		}
		if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			c.Close()
			return p, nil
		}
	}
	p.stop()
	return nil, fmt.Errorf("%s does not listen on %s after 30 s\n%s", name, addr, tail(p.log))
}

func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// stop ends the process, by force after 15 s, and returns how it ended.
func (p *process) stop() string {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(15 * time.Second):
		p.cmd.Process.Kill()
		<-p.exited
	}
	os.RemoveAll(p.home)
	return p.cmd.ProcessState.String()
}

func tail(file string) string {
	b, _ := os.ReadFile(file)
	if len(b) > 2000 {
		b = b[len(b)-2000:]
	}
	return strings.TrimSpace(string(b))
}

// cpu is user and system time of all threads, ended ones too, in seconds; the kernel counts it in hundredths.
func (p *process) cpu() float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(f) < 13 {
		return 0
	}
	u, _ := strconv.ParseFloat(f[11], 64)
	k, _ := strconv.ParseFloat(f[12], 64)
	return (u + k) / 100
}

// cpuExact is the time that the threads alive now have run, in seconds, counted in nanoseconds.
func (p *process) cpuExact() (s float64) {
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.pid))
	for _, n := range names {
		if b, err := os.ReadFile(n); err == nil {
			if f := strings.Fields(string(b)); len(f) > 0 {
				ns, _ := strconv.ParseFloat(f[0], 64)
				s += ns / 1e9
			}
		}
	}
	return
}

func kib(file, key string) float64 {
	b, _ := os.ReadFile(file)
	for _, l := range strings.Split(string(b), "\n") {
		if f := strings.Fields(l); len(f) > 1 && f[0] == key+":" {
			n, _ := strconv.ParseFloat(f[1], 64)
			return n
		}
	}
	return 0
}

// status is a size of /proc/PID/status (VmRSS, VmHWM) in MB of 1024 * 1024.
func (p *process) status(key string) float64 {
	return kib(fmt.Sprintf("/proc/%d/status", p.pid), key) / 1024
}

// smaps is a size of /proc/PID/smaps_rollup (Rss, Anonymous, ...) in MB.
func (p *process) smaps(key string) float64 {
	return kib(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid), key) / 1024
}

// wakeups is how often its threads slept and went on again.
func (p *process) wakeups() (n float64) {
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.pid))
	for _, s := range names {
		n += kib(s, "voluntary_ctxt_switches")
	}
	return
}
