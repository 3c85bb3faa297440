// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"encoding/binary"
	"testing"
	"time"
)

// TestHeavyClient: what is sent to a client faster than its links carry it is dropped from
// the queue of that client alone. The packets of another one, which come through the same
// TUN device and the same socket, wait for none of it.
func TestHeavyClient(t *testing.T) {
	simulate(t, 2, func(t *testing.T, s *sim) {
		server := s.startServer(nil)
		heavy, light := s.startClient(0, nil), s.startClient(1, nil)
		heavy.waitUp(time.Second)
		light.waitUp(time.Second)
		go func() { // takes what arrives
			for {
				if _, err := heavy.dev.Receive(t.Context()); err != nil {
					return
				}
			}
		}()
		start := time.Now()
		var late []time.Duration
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				pkt, err := light.dev.Receive(t.Context())
				if err != nil {
					return
				}
				sent := time.Duration(binary.BigEndian.Uint64(pkt[len(pkt)-8:]))
				late = append(late, time.Since(start)-sent-simLinks[0].Delay)
			}
		}()
		const packets = 200 // in a second
		bulk := string(make([]byte, 1172))
		for i := range 5 * packets {
			// 16 flows of 154 Mbit/s together, over links of 50 + 50.
			for flow := range uint16(16) {
				pkt := ipPacket("192.0.2.9", "10.0.0.2", protoUDP, udp(443, 5000+flow, bulk))
				if !server.dev.Inject(pkt) {
					t.Fatalf("the TUN device is not read after %v", time.Since(start))
				}
			}
			if i%5 == 0 {
				at := binary.BigEndian.AppendUint64(nil, uint64(time.Since(start)))
				server.dev.Inject(ipPacket("192.0.2.9", "10.0.0.3", protoUDP, udp(443, 5000, string(at))))
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(100 * time.Millisecond)
		light.end()
		<-done
		heavy.end()
		server.end()
		var worst time.Duration
		for _, d := range late {
			worst = max(worst, d)
		}
		t.Logf("%d packets, up to %v later than the link delivers them", len(late), worst)
		if len(late) != packets {
			t.Errorf("%d of %d packets arrived", len(late), packets)
		}
		if worst > 2*time.Millisecond {
			t.Errorf("up to %v later than the link delivers them", worst)
		}
	})
}
