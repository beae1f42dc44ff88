// SPDX-License-Identifier: Apache-2.0

// gRPC: `server PORT LOG UPSTREAM [KEY CERTIFICATE]` serves package.Service and writes a line for each call to LOG; Call asks the upstream by HTTP.
// `client PORT [CA]` waits for lines "AT_ONCE EACH METHOD..." on stdin, calls each method as often, and writes a line for each call to stdout, then
// "ok".
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type text = wrapperspb.StringValue

type server struct {
	lock     sync.Mutex
	log      io.Writer
	upstream string
	client   *http.Client
}

// unary methods answer after what they were asked: "NAME" or, for Call, the path.
func (s *server) unary(ctx context.Context, method string, asked *text) (*text, error) {
	switch method {
	case "Slow":
		time.Sleep(10 * time.Millisecond)
	case "Missing":
		return nil, status.Error(codes.NotFound, "as asked")
	case "Broken":
		return nil, status.Error(codes.Internal, "as asked")
	case "Call":
		answer, err := s.client.Get(s.upstream + asked.Value)
		if err != nil {
			return nil, status.Error(codes.Unavailable, err.Error())
		}
		defer answer.Body.Close()
		io.Copy(io.Discard, answer.Body)
	}
	return asked, nil
}

// stream methods: Count sends three, Sum takes what comes and sends one, Chat echoes, Breaks sends two and fails.
func (s *server) stream(method string, stream grpc.ServerStream) error {
	for sent := 0; ; {
		var asked text
		err := stream.RecvMsg(&asked)
		if err == io.EOF {
			if method == "Sum" {
				return stream.SendMsg(&text{Value: "sum"})
			}
			return nil
		}
		if err != nil {
			return err
		}
		for ; method != "Sum" && sent < map[string]int{"Count": 3, "Breaks": 2, "Chat": sent + 1}[method]; sent++ {
			if err := stream.SendMsg(&asked); err != nil {
				return err
			}
			if method == "Chat" {
				sent++
				break
			}
		}
		if method == "Breaks" {
			return status.Error(codes.Aborted, "as asked")
		}
	}
}

func (s *server) write(method string, begun time.Time, err error) {
	s.lock.Lock()
	defer s.lock.Unlock()
	fmt.Fprintf(s.log, `{"method":"%s","code":%d,"seconds":%.9f}`+"\n", method, status.Code(err), time.Since(begun).Seconds())
}

func (s *server) description() *grpc.ServiceDesc {
	d := &grpc.ServiceDesc{ServiceName: "package.Service", HandlerType: (*any)(nil)}
	for _, name := range []string{"Echo", "Slow", "Missing", "Broken", "Call"} {
		d.Methods = append(d.Methods, grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			begun, asked := time.Now(), new(text)
			if err := decode(asked); err != nil {
				return nil, err
			}
			answer, err := s.unary(ctx, name, asked)
			s.write(name, begun, err)
			return answer, err
		}})
	}
	for _, name := range []string{"Count", "Sum", "Chat", "Breaks"} {
		d.Streams = append(d.Streams, grpc.StreamDesc{StreamName: name, ServerStreams: true, ClientStreams: true, Handler: func(_ any, stream grpc.ServerStream) error {
			begun := time.Now()
			err := s.stream(name, stream)
			s.write(name, begun, err)
			return err
		}})
	}
	return d
}

func serve(port, path, upstream string, ends []string) error {
	out, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	s := &server{log: out, upstream: upstream, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}}
	keys := insecure.NewCredentials()
	if len(ends) > 1 {
		if keys, err = credentials.NewServerTLSFromFile(ends[1], ends[0]); err != nil {
			return err
		}
	}
	g := grpc.NewServer(grpc.Creds(keys), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		name, _ := grpc.MethodFromServerStream(stream)
		err := status.Error(codes.Unimplemented, "as asked")
		s.write(name[strings.LastIndex(name, "/")+1:], time.Now(), err)
		return err
	}))
	g.RegisterService(s.description(), nil)
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	return g.Serve(listener)
}

func stream(c *grpc.ClientConn, method string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/package.Service/"+method)
	if err != nil {
		return err
	}
	for range 3 {
		if err := s.SendMsg(&text{Value: method}); err != nil {
			break // the status is in what is received
		}
		time.Sleep(time.Millisecond)
	}
	s.CloseSend()
	for {
		if err := s.RecvMsg(new(text)); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func call(c *grpc.ClientConn, method, value string) error {
	switch method {
	case "Count", "Sum", "Chat", "Breaks":
		return stream(c, method)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return c.Invoke(ctx, "/package.Service/"+method, &text{Value: value}, new(text))
}

func ask(port string, ca []string) {
	keys, err := insecure.NewCredentials(), error(nil)
	if len(ca) > 0 {
		if keys, err = credentials.NewClientTLSFromFile(ca[0], "localhost"); err != nil {
			log.Fatal(err)
		}
	}
	c, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(keys))
	if err != nil {
		log.Fatal(err)
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var atOnce, each int
		var all sync.WaitGroup
		var lock sync.Mutex
		words := strings.Fields(in.Text())
		fmt.Sscan(strings.Join(words[:2], " "), &atOnce, &each)
		for n := range atOnce {
			all.Go(func() {
				for i := range each {
					for _, method := range words[2:] {
						begun := time.Now()
						err := call(c, method, fmt.Sprintf("/wait/%d/%d/%d/%d", (n+i)%5*5, n, i, atOnce))
						lock.Lock()
						fmt.Printf(`{"method":"%s","code":%d,"seconds":%.9f}`+"\n", method, status.Code(err), time.Since(begun).Seconds())
						lock.Unlock()
					}
				}
			})
		}
		all.Wait()
		fmt.Println("ok")
	}
}

func main() {
	if os.Args[1] == "client" {
		ask(os.Args[2], os.Args[3:])
	} else {
		log.Fatal(serve(os.Args[2], os.Args[3], os.Args[4], os.Args[5:]))
	}
}
