// SPDX-License-Identifier: Apache-2.0

// quicflow is one end of a QUIC flow of quic-go, for measurements of what a tunnel
// does with QUIC inside.
//
//	quicflow serve ADDR:PORT       waits for a flow
//	quicflow up|down ADDR:PORT     is the client of one, in a direction as it sees it
//
// The sender sends as fast as it can until the connection ends. The receiver prints how
// many bytes it has received so far, twenty times a second.
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	quicgo "github.com/quic-go/quic-go"

	"github.com/mqvpn/mqvpn/quic/quictest"
)

const (
	alpn = "quicflow"
	// chunk is what is written and read at once.
	chunk = 64 << 10
	// reportEvery is the time between two lines of a receiver.
	reportEvery = 50 * time.Millisecond
	// The windows hold a flow's data on any of the lab's links.
	streamWindow, connWindow = 64 << 20, 96 << 20
)

// What the client's first byte asks of the server.
const (
	sendToMe      = 'd'
	receiveFromMe = 'u'
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: quicflow serve|up|down ADDR:PORT")
		os.Exit(2)
	}
	var err error
	switch address := os.Args[2]; os.Args[1] {
	case "serve":
		err = serve(address)
	case "up":
		err = dial(address, receiveFromMe)
	case "down":
		err = dial(address, sendToMe)
	default:
		err = fmt.Errorf("%q: want serve, up or down", os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "quicflow:", err)
		os.Exit(1)
	}
}

func config() *quicgo.Config {
	return &quicgo.Config{
		InitialStreamReceiveWindow: streamWindow, MaxStreamReceiveWindow: streamWindow,
		InitialConnectionReceiveWindow: connWindow, MaxConnectionReceiveWindow: connWindow,
	}
}

func serve(address string) error {
	cert, _ := quictest.Cert("localhost")
	l, err := quicgo.ListenAddr(address, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{alpn}}, config())
	if err != nil {
		return err
	}
	fmt.Println("ready")
	conn, err := l.Accept(context.Background())
	if err != nil {
		return err
	}
	s, err := conn.AcceptStream(context.Background())
	if err != nil {
		return err
	}
	var wish [1]byte
	if _, err := io.ReadFull(s, wish[:]); err != nil {
		return err
	}
	if wish[0] == sendToMe {
		return send(s)
	}
	return receive(s)
}

func dial(address string, wish byte) error {
	// There is nobody else on the lab's network.
	conn, err := quicgo.DialAddr(context.Background(), address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{alpn}}, config())
	if err != nil {
		return err
	}
	s, err := conn.OpenStreamSync(context.Background())
	if err != nil {
		return err
	}
	if _, err := s.Write([]byte{wish}); err != nil {
		return err
	}
	if wish == sendToMe {
		return receive(s)
	}
	return send(s)
}

func send(w io.Writer) error {
	b := make([]byte, chunk)
	for {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
}

func receive(r io.Reader) error {
	var received atomic.Int64
	go func() {
		for range time.Tick(reportEvery) {
			fmt.Println("received", received.Load())
		}
	}()
	b := make([]byte, chunk)
	for {
		n, err := r.Read(b)
		received.Add(int64(n))
		if err != nil {
			return err
		}
	}
}
