// SPDX-License-Identifier: Apache-2.0

// A server to be observed: KIND PORT LOG UPSTREAM [KEY CERTIFICATE CA], KIND http, https (HTTP/1.1 and, by ALPN, HTTP/2), h2c (net/http's own)
// or xh2c (that of golang.org/x/net). /call/... asks the upstream. And a client: ask URL CA, which waits for lines "AT_ONCE EACH" on stdin, sends
// as many requests to URL/call/MS/N/I and writes "ok" once all are answered.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"
)

// client speaks HTTP/2 when the other end offers it; over plain TCP when both.
func client(ca string, plain2 bool) *http.Client {
	t := &http.Transport{MaxIdleConnsPerHost: 100, ForceAttemptHTTP2: true}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			log.Fatal(err)
		}
		t.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
		t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem)
	}
	if plain2 {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	return &http.Client{Transport: t, Timeout: 30 * time.Second}
}

type server struct {
	lock     sync.Mutex
	log      io.Writer
	upstream string
	client   *http.Client
}

func (s *server) ask(path string) (int, []byte) {
	answer, err := s.client.Get(s.upstream + "/wait" + path)
	if err != nil {
		return 502, []byte(err.Error())
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, body
}

func (s *server) answer(path string, asked []byte) (int, []byte) {
	words := strings.Split(path, "/")
	switch words[1] {
	case "size":
		n, _ := strconv.Atoi(words[2])
		return 200, bytes.Repeat([]byte("h"), n)
	case "status":
		n, _ := strconv.Atoi(words[2])
		return n, []byte("status")
	case "echo":
		return 200, asked
	case "call":
		return s.ask(path[len("/call"):])
	case "wait":
		ms, _ := strconv.Atoi(words[2])
		time.Sleep(time.Duration(ms) * time.Millisecond)
		return 200, bytes.Repeat([]byte("u"), 100)
	}
	return 404, []byte("none")
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	asked, _ := io.ReadAll(r.Body)
	status, body := s.answer(r.URL.Path, asked)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
	s.lock.Lock()
	defer s.lock.Unlock()
	fmt.Fprintf(s.log, `{"method":"%s","path":"%s","status":%d,"asked":%d,"body":%d,"seconds":%.9f,"version":"%d"}`+"\n",
		r.Method, r.URL.Path, status, len(asked), len(body), time.Since(begun).Seconds(), r.ProtoMajor)
}

func serve(kind, port, path, upstream string, ends []string) error {
	out, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	ca := ""
	if len(ends) > 2 {
		ca = ends[2]
	}
	s := &server{log: out, upstream: upstream, client: client(ca, false)}
	h := &http.Server{Addr: "127.0.0.1:" + port, Handler: s}
	switch kind {
	case "https":
		return h.ListenAndServeTLS(ends[1], ends[0])
	case "h2c":
		h.Protocols = new(http.Protocols)
		h.Protocols.SetHTTP1(true)
		h.Protocols.SetUnencryptedHTTP2(true)
	case "xh2c":
		h.Handler = h2c.NewHandler(s, &http2.Server{})
	}
	return h.ListenAndServe()
}

func ask(url, ca string) {
	c := client(ca, strings.HasPrefix(url, "http:"))
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var atOnce, each int
		var all sync.WaitGroup
		fmt.Sscan(in.Text(), &atOnce, &each)
		for n := range atOnce {
			all.Go(func() {
				for i := range each {
					answer, err := c.Get(fmt.Sprintf("%s/call/%d/%d/%d/%d", url, (n+i)%5*5, n, i, atOnce))
					if err != nil {
						log.Fatal(err)
					}
					io.Copy(io.Discard, answer.Body)
					answer.Body.Close()
				}
			})
		}
		all.Wait()
		fmt.Println("ok")
	}
}

func main() {
	if os.Args[1] == "ask" {
		ask(os.Args[2], os.Args[3])
	} else {
		log.Fatal(serve(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5:]))
	}
}
