// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/quic"
)

const recording = "../testdata/captures/mqvpn-c-connect-ip"

// recorded returns a stream or the datagrams of the recording of the C
// implementation's server.
func recorded(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(recording, "streams", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func recordedDatagrams(t *testing.T, name string) (list [][]byte) {
	t.Helper()
	for line := range strings.FieldsSeq(string(recorded(t, name))) {
		list = append(list, unhex(t, line))
	}
	return list
}

func sendRaw(qc *quic.Conn, datagrams [][]byte) {
	var bufs []*quic.PacketBuf
	for _, d := range datagrams {
		bufs = append(bufs, buf(d))
	}
	qc.SendDatagrams(bufs)
}

// writeUni opens a unidirectional stream with the given content.
func writeUni(t *testing.T, qc *quic.Conn, b []byte) {
	t.Helper()
	s, err := qc.OpenUniStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(b); err != nil {
		t.Fatal(err)
	}
}

// acceptRequest waits for the request stream, as the C server does: it opens its
// own streams first.
func acceptRequest(t *testing.T, sc *quic.Conn) *quic.Stream {
	t.Helper()
	for _, name := range []string{"server_to_client-3.bin", "server_to_client-7.bin", "server_to_client-11.bin"} {
		writeUni(t, sc, recorded(t, name))
	}
	for {
		s, err := sc.AcceptStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !s.IsUni() {
			return s
		}
	}
}

// TestReplayServer plays the bytes of the C implementation's server to our client:
// its SETTINGS, its answer, one capsule for each IP version, its packets.
func TestReplayServer(t *testing.T) {
	withConns(t, func(t *testing.T, cc, sc *quic.Conn) {
		go func() {
			s := acceptRequest(t, sc)
			s.Write(recorded(t, "server_to_client-0.bin"))
		}()
		h, err := http3.NewClientConn(t.Context(), cc)
		if err != nil {
			t.Fatal(err)
		}
		s, _, err := Dial(t.Context(), h, Request{Authority: "server.test:443", Token: "x"})
		if err != nil {
			t.Fatal(err)
		}
		var got packets
		s.SetHandler(&got)
		settle()
		want := []netip.Prefix{netip.MustParsePrefix("10.99.0.2/32"), netip.MustParsePrefix("fd00:99::2/128")}
		if a := s.Assigned(); !slices.Equal(a, want) {
			t.Errorf("assigned %v, want %v", a, want)
		}
		if r := s.Routes(); !slices.Equal(r, []Route{default4, default6}) {
			t.Errorf("routes %v", r)
		}
		down, up := recordedDatagrams(t, "server_to_client-datagrams.hex"), recordedDatagrams(t, "client_to_server-datagrams.hex")
		sendRaw(sc, down)
		settle()
		for i, p := range got.take() {
			if p != string(down[i][2:]) {
				t.Errorf("packet %d is %x", i, p)
			}
		}
		if n := s.Stats().Received.Packets; n != uint64(len(down)) || n != 5 {
			t.Errorf("%d of %d packets: %+v", n, len(down), s.Stats())
		}
		// What its client sent is what ours would send.
		sent := new(rawDatagrams)
		sc.SetDatagramHandler(sent)
		settle()
		for _, d := range up {
			s.Send([]*quic.PacketBuf{buf(d[2:])})
		}
		settle()
		list := sent.take()
		if len(list) != len(up) {
			t.Fatalf("%d datagrams", len(list))
		}
		for i, d := range list {
			if d != string(up[i]) {
				t.Errorf("datagram %d is %x, want %x", i, d, up[i])
			}
		}
	})
}

// rawDatagrams keeps QUIC datagrams.
type rawDatagrams struct{ packets }

func (d *rawDatagrams) HandleDatagram(b []byte) { d.HandlePacket(b) }
func (d *rawDatagrams) FlushDatagrams()         { d.FlushPackets() }

// TestReplayCapsules plays the recorded capsules in other cuts and orders.
func TestReplayCapsules(t *testing.T) {
	var expected struct {
		Data []string `json:"stream0_server_to_client_data_hex"`
	}
	b, err := os.ReadFile(filepath.Join(recording, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &expected); err != nil {
		t.Fatal(err)
	}
	assign4, assign6, route4, route6 := expected.Data[0], expected.Data[1], expected.Data[2], expected.Data[3]
	const both = "011a" + "00040a63000220" + "0006fd00009900000000000000000000000270" // one capsule with both families
	for name, frames := range map[string][]string{
		"as recorded":              {assign4, assign6, route4, route6},
		"in one DATA frame":        {assign4 + assign6 + route4 + route6},
		"interleaved":              {assign4, route4, assign6, route6},
		"IPv6 first":               {assign6, assign4, route6, route4},
		"cut inside capsules":      {assign4[:6], assign4[6:] + assign6[:20], assign6[20:] + route4, route6},
		"both families in one":     {both, route4, route6},
		"answered request as well": {assign4, assign6, route4, route6, "0107" + "01040a63000220"},
		"in a burst with unknown":  {"17022222" + assign4 + "1700" + assign6, route4 + route6},
	} {
		t.Run(name, func(t *testing.T) {
			withRawServer(t, func(t *testing.T, st *http3.RequestStream, s *Session, _ *packets) {
				for _, f := range frames {
					if _, err := st.Write(unhex(t, f)); err != nil {
						t.Fatal(err)
					}
				}
				settle()
				a := s.Assigned()
				slices.SortFunc(a, netip.Prefix.Compare)
				if !slices.Equal(a, []netip.Prefix{netip.MustParsePrefix("10.99.0.2/32"), netip.MustParsePrefix("fd00:99::2/128")}) {
					t.Errorf("assigned %v", a)
				}
				if r := s.Routes(); !slices.Equal(r, []Route{default4, default6}) {
					t.Errorf("routes %v", r)
				}
			})
		})
	}
}

// TestReplayClient plays the bytes of the recorded client, quic-go's, to our server.
func TestReplayClient(t *testing.T) {
	withConns(t, func(t *testing.T, cc, sc *quic.Conn) {
		sessions := make(chan *Session, 1)
		tokens := make(chan string, 1)
		m := &Server{Authorize: func(_ *http3.Request, token string) error {
			tokens <- token
			return nil
		}}
		go (&http3.Server{Handler: func(req *http3.Request, st *http3.RequestStream) {
			if s, err := m.Accept(req, st); err == nil {
				sessions <- s
				<-s.Done()
			}
		}}).Serve(sc)
		writeUni(t, cc, recorded(t, "client_to_server-2.bin"))
		st, err := cc.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		st.Write(recorded(t, "client_to_server-0.bin"))
		s := <-sessions
		if token := <-tokens; token == "" {
			t.Error("no token")
		}
		var got packets
		s.SetHandler(&got)
		if err := s.AssignAddresses([]netip.Prefix{netip.MustParsePrefix("10.99.0.2/32")}); err != nil {
			t.Fatal(err)
		}
		up := recordedDatagrams(t, "client_to_server-datagrams.hex")
		sendRaw(cc, up)
		settle()
		if n := len(got.take()); n != len(up) {
			t.Errorf("%d of %d packets: %+v", n, len(up), s.Stats())
		}
		// 200 with capsule-protocol in a HEADERS frame, then the capsule in DATA.
		b := make([]byte, 100)
		n, err := st.Read(b)
		if err != nil || !strings.HasSuffix(string(b[:n]), string(unhex(t, "0009 0107 00040a63000220"))) || b[0] != 1 {
			t.Errorf("answer %x, %v", b[:n], err)
		}
	})
}

// TestRefusedByClose: the C server refuses a key by closing the connection.
func TestRefusedByClose(t *testing.T) {
	for _, late := range []bool{false, true} {
		withConns(t, func(t *testing.T, cc, sc *quic.Conn) {
			go func() {
				if late {
					acceptRequest(t, sc)
				}
				sc.CloseWithError(0x106, "")
			}()
			h, err := http3.NewClientConn(t.Context(), cc)
			if err == nil {
				_, _, err = Dial(t.Context(), h, Request{Authority: "server.test:443", Token: "wrong"})
			} else {
				err = refusal(err)
			}
			if e, ok := errors.AsType[*RefusedError](err); !ok || e.Code != 0x106 || e.Status != 0 {
				t.Errorf("Dial: %v", err)
			}
		})
	}
}

// TestRefusedByReset: another way to refuse.
func TestRefusedByReset(t *testing.T) {
	withConns(t, func(t *testing.T, cc, sc *quic.Conn) {
		go func() {
			s := acceptRequest(t, sc)
			s.Reset(uint64(http3.ErrRequestRejected))
		}()
		h, err := http3.NewClientConn(t.Context(), cc)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = Dial(t.Context(), h, Request{Authority: "server.test:443"})
		if e, ok := errors.AsType[*RefusedError](err); !ok || e.Code != http3.ErrRequestRejected {
			t.Errorf("Dial: %v", err)
		}
	})
}

// TestNoDatagrams: a peer without datagrams is told apart from a refusal.
func TestNoDatagrams(t *testing.T) {
	withConns(t, func(t *testing.T, cc, sc *quic.Conn) {
		writeUni(t, sc, unhex(t, "00 0402 0801"))
		h, err := http3.NewClientConn(t.Context(), cc)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Dial(t.Context(), h, Request{Authority: "server.test:443"}); err != ErrNoDatagrams {
			t.Errorf("Dial: %v", err)
		}
	})
}

// TestDialGivesUp: the caller's time limit is no refusal.
func TestDialGivesUp(t *testing.T) {
	for _, settings := range []string{"00", "00 0404 08013301"} {
		withConns(t, func(t *testing.T, cc, sc *quic.Conn) {
			writeUni(t, sc, unhex(t, settings))
			h, err := http3.NewClientConn(t.Context(), cc)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, _, err := Dial(ctx, h, Request{Authority: "server.test:443"}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Dial: %v", err)
			}
		})
	}
}
