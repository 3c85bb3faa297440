// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/mqvpn/mqvpn/http3"
	"github.com/mqvpn/mqvpn/quic/quictest"
)

// What a peer with a tunnel can make us hold.

// largeLists are the largest lists of addresses and routes that fit a capsule.
func largeLists() (addresses, routes []byte) {
	for i := uint32(0); len(addresses)+7 <= 64<<10; i++ {
		a := binary.BigEndian.AppendUint32(nil, 10<<24+i)
		addresses = append(append(append(addresses, 0, 4), a...), 32)
	}
	for i := uint32(0); len(routes)+10 <= 64<<10; i++ {
		a := binary.BigEndian.AppendUint32(nil, 10<<24+i)
		routes = append(append(append(append(routes, 4), a...), a...), 0)
	}
	return addresses, routes
}

// TestLargeLists: the largest lists of addresses and routes are taken, however often they
// come, and cost no more than they must; larger ones end the tunnel.
func TestLargeLists(t *testing.T) {
	addresses, routes := largeLists()
	withRawClient(t, func(t *testing.T, st *http3.RequestStream, s *Session, _ *packets) {
		settle()
		before := quictest.HeapInUse()
		for range 20 {
			for typ, value := range map[uint64][]byte{1: addresses, 3: routes} {
				if err := st.WriteCapsule(typ, value); err != nil {
					t.Fatal(err)
				}
			}
		}
		settle()
		if a, r := len(s.Assigned()), len(s.Routes()); a != len(addresses)/7 || r != len(routes)/10 {
			t.Errorf("%d addresses, %d routes", a, r)
		}
		if grown := quictest.HeapInUse() - before; !raceDetector && grown > 3<<20 {
			t.Errorf("holds %d bytes more", grown)
		} else {
			t.Logf("%d addresses and %d routes: %d bytes", len(s.Assigned()), len(s.Routes()), grown)
		}
	})
	for typ, value := range map[uint64][]byte{1: addresses, 2: addresses, 3: routes} {
		withRawClient(t, func(t *testing.T, st *http3.RequestStream, s *Session, _ *packets) {
			if err := st.WriteCapsule(typ, append(value, value[:20]...)); err != nil {
				t.Fatal(err)
			}
			wantReset(t, st, http3.ErrExcessiveLoad)
			<-s.Done()
		})
	}
}

// TestManyAddressRequests: more requests than we would remember, in one capsule.
func TestManyAddressRequests(t *testing.T) {
	var value []byte
	for range maxPendingRequests + 1 {
		value = appendAddresses(value, []address{{1, netip.MustParsePrefix("0.0.0.0/32")}})
	}
	withRawClient(t, func(t *testing.T, st *http3.RequestStream, s *Session, _ *packets) {
		if err := st.WriteCapsule(capsuleAddressRequest, value); err != nil {
			t.Fatal(err)
		}
		wantReset(t, st, http3.ErrExcessiveLoad)
	})
}

// TestEndlessCapsules: what is skipped is not held, how ever much or slowly it comes.
func TestEndlessCapsules(t *testing.T) {
	withRawClient(t, func(t *testing.T, st *http3.RequestStream, s *Session, _ *packets) {
		settle()
		before := quictest.HeapInUse()
		unknown := http3.AppendCapsule(nil, 0x21, make([]byte, 100))
		many := make([]byte, 0, 300*len(unknown))
		for range 300 {
			many = append(many, unknown...)
		}
		huge := http3.AppendVarint(http3.AppendVarint(nil, 0x4242), http3.MaxVarint)
		for i, b := range [][]byte{many, huge} {
			if i == 1 {
				st.Write(b)
				b = make([]byte, 30_000)
			}
			for range 100 {
				if _, err := st.Write(b); err != nil {
					t.Fatal(err)
				}
			}
			for range 50 { // and then slowly
				if _, err := st.Write(b[:1]); err != nil {
					t.Fatal(err)
				}
				time.Sleep(3 * time.Second)
			}
			if i == 0 { // the end of the capsule that has begun
				st.Write(make([]byte, 300))
			}
			if grown := quictest.HeapInUse() - before; !raceDetector && grown > 1<<20 {
				t.Errorf("holds %d bytes more", grown)
			}
			if s.Err() != nil {
				t.Fatalf("the tunnel ended: %v", s.Err())
			}
		}
	})
}

// TestCapsuleOfHugeLength: a capsule that is to be kept must not announce more than we keep;
// one that announces less costs what has come of it.
func TestCapsuleOfHugeLength(t *testing.T) {
	for typ := uint64(capsuleAddressAssign); typ <= capsuleRouteAdvertisement; typ++ {
		withRawClient(t, func(t *testing.T, st *http3.RequestStream, s *Session, _ *packets) {
			st.Write(http3.AppendVarint(http3.AppendVarint(nil, typ), 1<<40))
			wantReset(t, st, http3.ErrExcessiveLoad)
		})
	}
	withRawClient(t, func(t *testing.T, st *http3.RequestStream, s *Session, _ *packets) {
		settle()
		before := quictest.HeapInUse()
		st.Write(http3.AppendVarint(http3.AppendVarint(nil, capsuleAddressAssign), 64<<10))
		for range 100 {
			if _, err := st.Write([]byte{0}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Second)
		}
		if grown := quictest.HeapInUse() - before; !raceDetector && grown > 256<<10 {
			t.Errorf("holds %d bytes more", grown)
		}
		if s.Err() != nil {
			t.Errorf("the tunnel ended: %v", s.Err())
		}
	})
}
