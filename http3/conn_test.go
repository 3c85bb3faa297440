// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"io"
	"testing"

	"github.com/mqvpn/mqvpn/quic"
)

// Frames that the scripts use, worked out by hand.
const (
	// :method GET, :scheme https, :path /, :authority a
	getHeaders = "0108 0000 d1 d7 c1 500161"
	// :method CONNECT, :scheme https, :path /, :authority a, :protocol connect-ip
	connectHeaders = "011e 0000 cf d7 c1 500161 2702 3a70726f746f636f6c 0a 636f6e6e6563742d6970"
	okHeaders      = "0103 0000 d9"       // :status 200
	trailers       = "0106 0000 21780179" // x: y
)

// reading is a handler that takes the whole request before it answers.
func reading(req *Request, st *RequestStream) {
	if req.isConnect() {
		st.WriteResponse(&Response{Status: 200})
		io.Copy(io.Discard, st)
		return
	}
	if _, err := io.Copy(io.Discard, st); err == nil {
		NotFound(req, st)
	}
}

// script is one violation and the code that closes the connection.
type script struct {
	name string
	play func(p peer)
	want ErrorCode
}

// uniScript writes bytes to a unidirectional stream.
func uniScript(name, hex string, want ErrorCode) script {
	return script{name, func(p peer) { p.uni(hex) }, want}
}

// controlScript writes bytes to the control stream, behind SETTINGS.
func controlScript(name, hex string, want ErrorCode) script {
	return script{name, func(p peer) { p.uni("000400" + hex) }, want}
}

// closedScript ends a critical stream, by FIN and by a reset.
func closedScript(name, hex string, want ErrorCode) []script {
	return []script{
		{name + " closed", func(p peer) { p.uni(hex).CloseWrite() }, want},
		{name + " reset", func(p peer) {
			s := p.uni(hex)
			p.wantOpen()
			s.Reset(0)
		}, want},
	}
}

// violations of both roles.
func violations() (list []script) {
	list = append(list, closedScript("control stream", "00 0400", ErrClosedCriticalStream)...) // R9114-6.2.1-4
	list = append(list, closedScript("control stream without SETTINGS", "00", ErrClosedCriticalStream)...)
	list = append(list, closedScript("encoder stream", "02", ErrClosedCriticalStream)...) // R9204-4.2-2
	list = append(list, closedScript("decoder stream", "03", ErrClosedCriticalStream)...) // R9204-4.2-2
	twice := func(hex string) func(p peer) {
		return func(p peer) {
			p.uni(hex)
			p.wantOpen()
			p.uni(hex)
		}
	}
	return append(list,
		uniScript("GOAWAY before SETTINGS", "00 070100", ErrMissingSettings),       // R9114-6.2.1-2
		uniScript("reserved frame before SETTINGS", "00 2100", ErrMissingSettings), // R9114-6.2.1-2
		script{"second control stream", twice("00 0400"), ErrStreamCreation},       // R9114-6.2.1-3
		script{"second encoder stream", twice("02"), ErrStreamCreation},            // R9204-4.2-1
		script{"second decoder stream", twice("03"), ErrStreamCreation},            // R9204-4.2-1
		controlScript("DATA", "000161", ErrFrameUnexpected),                        // R9114-7.2.1-1
		controlScript("HEADERS", okHeaders, ErrFrameUnexpected),                    // R9114-7.2.2-1
		controlScript("second SETTINGS", "0400", ErrFrameUnexpected),               // R9114-7.2.4-1
		controlScript("PUSH_PROMISE", "050100", ErrFrameUnexpected),                // R9114-7.2.5-2
		controlScript("HTTP/2 PRIORITY", "0200", ErrFrameUnexpected),               // R9114-7.2.8-2
		controlScript("HTTP/2 PING", "0600", ErrFrameUnexpected),                   // R9114-7.2.8-2
		controlScript("HTTP/2 WINDOW_UPDATE", "0800", ErrFrameUnexpected),          // R9114-7.2.8-2
		controlScript("HTTP/2 CONTINUATION", "0900", ErrFrameUnexpected),           // R9114-7.2.8-2
		controlScript("CANCEL_PUSH", "030100", ErrID),                              // R9114-7.2.3-2
		controlScript("empty GOAWAY", "0700", ErrFrame),                            // R9114-7.1-1
		controlScript("GOAWAY with a byte too many", "07020000", ErrFrame),         // R9114-7.1-1
		controlScript("GOAWAY with a byte too few", "070140", ErrFrame),            // R9114-7.1-1
		controlScript("GOAWAY of nine bytes", "0709000000000000000000", ErrFrame),  // R9114-7.1-1
		controlScript("GOAWAY that rises", "070100 070104", ErrID),                 // R9114-5.2-3
		uniScript("truncated setting", "00 0401 08", ErrFrame),                     // R9114-7.1-1
		uniScript("setting of HTTP/2", "00 0402 0200", ErrSettings),                // R9114-7.2.4.1-1
		uniScript("setting twice", "00 0404 08010801", ErrSettings),
		uniScript("ENABLE_CONNECT_PROTOCOL 2", "00 0402 0802", ErrSettings), // R8441-3-1
		uniScript("H3_DATAGRAM 2", "00 0402 3302", ErrSettings),             // R9297-2.1.1-1
		uniScript("large SETTINGS", "00 0480010000", ErrExcessiveLoad),
		script{"SETTINGS cut off", func(p peer) { p.uni("00 0404 0801").CloseWrite() }, ErrFrame}, // R9114-7.1-2
		script{"GOAWAY cut off", func(p peer) { p.uni("00 0400 07").CloseWrite() }, ErrFrame},     // R9114-7.1-2
		uniScript("table capacity 1", "02 21", ErrQPACKEncoderStream),                             // R9204-4.3.1-1
		uniScript("table capacity 31 and more", "02 3f00", ErrQPACKEncoderStream),                 // R9204-4.3.1-1
		uniScript("insert with a static name", "02 c00161", ErrQPACKEncoderStream),                // R9204-3.2.2-1
		uniScript("insert with static name 99", "02 ff240161", ErrQPACKEncoderStream),             // R9204-3.1-2
		uniScript("insert with a literal name", "02 41610162", ErrQPACKEncoderStream),             // R9204-3.2.2-1
		uniScript("duplicate", "02 00", ErrQPACKEncoderStream),
		uniScript("section acknowledgment", "03 80", ErrQPACKDecoderStream),   // R9204-4.4.1-1
		uniScript("insert count increment 0", "03 00", ErrQPACKDecoderStream), // R9204-4.4.3-1
		uniScript("insert count increment 1", "03 01", ErrQPACKDecoderStream), // R9204-4.4.3-1
		uniScript("endless stream cancellation", "03 7f80808080808080808080808080", ErrQPACKDecoderStream),
		script{"empty datagram", func(p peer) { p.datagram("") }, ErrDatagram},                         // R9297-2.1-2
		script{"truncated quarter stream id", func(p peer) { p.datagram("80 0000") }, ErrDatagram},     // R9297-2.1-2
		script{"quarter stream id 2^60", func(p peer) { p.datagram("d000000000000000") }, ErrDatagram}, // R9297-2.1-1
		script{"datagram beyond the stream limit", func(p peer) { // R9297-2.1-6
			p.datagram("4063 00") // the hundredth stream
			p.wantOpen()
			p.datagram("4064 00")
		}, ErrID},
	)
}

// requestScript writes bytes to a request stream and ends it.
func requestScript(name, hex string, want ErrorCode) script {
	return script{name, func(p peer) { p.bidi(hex).CloseWrite() }, want}
}

// TestServerClosesConnection: violations by a client.
func TestServerClosesConnection(t *testing.T) {
	for _, c := range append(violations(),
		uniScript("push stream", "01 00", ErrStreamCreation),                                      // R9114-6.2.2-1
		controlScript("MAX_PUSH_ID that falls", "0d0105 0d0104", ErrID),                           // R9114-7.2.7-3
		requestScript("DATA before HEADERS", "000161", ErrFrameUnexpected),                        // R9114-4.1-3
		requestScript("HEADERS after trailers", getHeaders+trailers+trailers, ErrFrameUnexpected), // R9114-4.1-3
		requestScript("DATA after trailers", getHeaders+trailers+"000161", ErrFrameUnexpected),    // R9114-4.1-3
		requestScript("CANCEL_PUSH", getHeaders+"030100", ErrFrameUnexpected),                     // R9114-7.2.3-1
		requestScript("SETTINGS", getHeaders+"0400", ErrFrameUnexpected),                          // R9114-7.2.4-2
		requestScript("SETTINGS first", "0400", ErrFrameUnexpected),                               // R9114-7.2.4-2
		requestScript("PUSH_PROMISE", getHeaders+"050100", ErrFrameUnexpected),                    // R9114-7.2.5-2
		requestScript("PUSH_PROMISE first", "050100", ErrFrameUnexpected),                         // R9114-7.2.5-2
		requestScript("GOAWAY", getHeaders+"070100", ErrFrameUnexpected),                          // R9114-7.2.6-2
		requestScript("MAX_PUSH_ID", getHeaders+"0d0100", ErrFrameUnexpected),                     // R9114-7.2.7-2
		requestScript("HTTP/2 PRIORITY", getHeaders+"0200", ErrFrameUnexpected),                   // R9114-7.2.8-2
		requestScript("HTTP/2 PING first", "0600", ErrFrameUnexpected),                            // R9114-7.2.8-2
		requestScript("HEADERS on a tunnel", connectHeaders+trailers, ErrFrameUnexpected),         // R9114-4.4-2
		requestScript("PUSH_PROMISE on a tunnel", connectHeaders+"050100", ErrFrameUnexpected),    // R9114-4.4-2
		requestScript("HEADERS cut off", "0108 0000", ErrFrame),                                   // R9114-7.1-2
		requestScript("DATA cut off", getHeaders+"000461", ErrFrame),                              // R9114-7.1-2
		requestScript("unknown frame cut off", getHeaders+"210461", ErrFrame),                     // R9114-7.1-2
		requestScript("type cut off", getHeaders+"40", ErrFrame),                                  // R9114-7.1-2
		requestScript("dynamic table", "0103 020080", ErrQPACKDecompression),                      // R9204-4.5.1.1-1 R9204-2.1.2-1
		requestScript("static index 99", "0104 0000ff24", ErrQPACKDecompression),                  // R9204-3.1-1
		requestScript("dynamic table in trailers", getHeaders+"0103 020080", ErrQPACKDecompression),
	) {
		t.Run(c.name, func(t *testing.T) {
			withConns(t, func(t *testing.T, client, server *quic.Conn) {
				go (&Server{Handler: reading}).Serve(server)
				p := peer{t, client}
				c.play(p)
				p.wantClose(c.want)
			})
		})
	}
}

// responseScript answers the client's request with bytes and ends the stream.
func responseScript(name, hex string, want ErrorCode) script {
	return script{name, func(p peer) {
		s := p.acceptBidi()
		p.write(s, hex)
		s.CloseWrite()
	}, want}
}

// TestClientClosesConnection: violations by a server.
func TestClientClosesConnection(t *testing.T) {
	for _, c := range append(violations(),
		script{"bidirectional stream", func(p peer) { p.bidi("00") }, ErrStreamCreation},          // R9114-6.1-1
		uniScript("push stream", "01 00", ErrID),                                                  // R9114-4.6-1
		controlScript("GOAWAY without a request stream", "070101", ErrID),                         // R9114-7.2.6-1
		controlScript("MAX_PUSH_ID", "0d0100", ErrFrameUnexpected),                                // R9114-7.2.7-1
		responseScript("DATA before HEADERS", "000161", ErrFrameUnexpected),                       // R9114-4.1-3
		responseScript("DATA after trailers", okHeaders+trailers+"000161", ErrFrameUnexpected),    // R9114-4.1-3
		responseScript("HEADERS after trailers", okHeaders+trailers+trailers, ErrFrameUnexpected), // R9114-4.1-3
		responseScript("PUSH_PROMISE", okHeaders+"050100", ErrID),                                 // R9114-7.2.5-1
		responseScript("PUSH_PROMISE first", "050100", ErrID),                                     // R9114-7.2.5-1
		responseScript("GOAWAY", okHeaders+"070100", ErrFrameUnexpected),                          // R9114-7.2.6-2
		responseScript("SETTINGS", okHeaders+"0400", ErrFrameUnexpected),                          // R9114-7.2.4-2
		responseScript("CANCEL_PUSH", okHeaders+"030100", ErrFrameUnexpected),                     // R9114-7.2.3-1
		responseScript("MAX_PUSH_ID", okHeaders+"0d0100", ErrFrameUnexpected),
		responseScript("HTTP/2 PING", okHeaders+"0600", ErrFrameUnexpected),   // R9114-7.2.8-2
		responseScript("HEADERS cut off", "0103 0000", ErrFrame),              // R9114-7.1-2
		responseScript("DATA cut off", okHeaders+"000261", ErrFrame),          // R9114-7.1-2
		responseScript("dynamic table", "0103 020080", ErrQPACKDecompression), // R9204-4.5.1.1-1
	) {
		t.Run(c.name, func(t *testing.T) {
			withConns(t, func(t *testing.T, client, server *quic.Conn) {
				cc, err := NewClientConn(t.Context(), client)
				if err != nil {
					t.Fatal(err)
				}
				go func() {
					if _, s, err := cc.Do(t.Context(), get("/")); err == nil {
						io.Copy(io.Discard, s)
					}
				}()
				p := peer{t, server}
				c.play(p)
				p.wantClose(c.want)
			})
		})
	}
}

// TestClientTunnelFrames: on the stream of an answered CONNECT only DATA follows.
func TestClientTunnelFrames(t *testing.T) { // R9114-4.4-2
	for _, hex := range []string{trailers, "050100", "0400"} {
		withConns(t, func(t *testing.T, client, server *quic.Conn) {
			cc, err := NewClientConn(t.Context(), client)
			if err != nil {
				t.Fatal(err)
			}
			p := peer{t, server}
			p.uni("00 0402 0801")
			go func() {
				s := p.acceptBidi()
				p.write(s, okHeaders+hex)
			}()
			_, s, err := cc.Do(t.Context(), &Request{Method: "CONNECT", Protocol: "x", Scheme: "https", Authority: "a", Path: "/"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Read(make([]byte, 1)); err == nil {
				t.Error("Read succeeds")
			}
			p.wantClose(ErrFrameUnexpected)
		})
	}
}

// TestGrease: unknown values of everything that is extensible are ignored.
func TestGrease(t *testing.T) { // R9114-9-1 R9114-6.2-1
	withConns(t, func(t *testing.T, client, server *quic.Conn) {
		go (&Server{Handler: reading}).Serve(server)
		p := peer{t, client}
		p.wantStopped(p.uni("21 0102"), ErrStreamCreation) // R9114-6.2-3
		p.uni("4041").CloseWrite()
		p.uni("").CloseWrite()                                         // R9114-6.2-4
		p.uni("40").CloseWrite()                                       // R9114-6.2-4
		p.uni("40").Reset(7)                                           // R9114-6.2-4
		p.uni("00 0403 404105 2103616263 0d0105 0d0105 404100 070105") // R9114-7.2.4-4 R9114-7.2.8-1
		p.uni("02 2020")                                               // R9204-4.2-3
		p.uni("03 41 7f8001 7f00")                                     // R9204-4.2-3
		// Reserved frames around and inside a message. // R9114-7.2.8-1
		s := p.bidi("2100" + getHeaders + "210161 000161 404100" + trailers + "2100")
		s.CloseWrite()
		types, payloads := p.readFrames(s)
		if len(types) != 2 || types[0] != frameHeaders || types[1] != frameData || string(payloads[1]) != notFoundPage {
			t.Errorf("frames %v", types)
		}
		// A reset with an unknown code is one like any other. // R9114-8-1
		p.bidi(getHeaders).Reset(0x1234567)
		p.wantOpen()
		client.CloseWithError(0x1234567, "") // R9114-8-1
	})
}

// TestOpening: what an endpoint sends without being asked.
func TestOpening(t *testing.T) {
	for _, server := range []bool{false, true} {
		withConns(t, func(t *testing.T, cc, sc *quic.Conn) {
			other := sc
			if server {
				other = cc
				go (&Server{}).Serve(sc)
			} else if _, err := NewClientConn(t.Context(), cc); err != nil {
				t.Fatal(err)
			}
			// R9114-6.2.1-1 R9114-3.2-2 R9114-7.2.4.2-1 R9204-3.2.3-1
			for _, want := range []string{"00040d068000400001000700080133" + "01", "02", "03"} {
				s, err := other.AcceptStream(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				b := make([]byte, 100)
				n, err := s.Read(b)
				if got := b[:n]; err != nil || string(got) != string(unhex(t, want)) || !s.IsUni() {
					t.Errorf("stream %d starts with %x, %v; want %s", s.ID(), got, err, want)
				}
			}
			peer{t, other}.wantOpen()
		})
	}
}
