// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// PingResult is the outcome of a series of ICMP echoes.
type PingResult struct {
	Sent int
	RTTs []time.Duration // of those answered, in order
}

// Received is the number of answers.
func (r PingResult) Received() int { return len(r.RTTs) }

// Min, Mean and Max are over the answers; 0 when there was none.
func (r PingResult) Min() (least time.Duration) {
	for i, d := range r.RTTs {
		if i == 0 || d < least {
			least = d
		}
	}
	return least
}

func (r PingResult) Mean() time.Duration {
	if len(r.RTTs) == 0 {
		return 0
	}
	var sum time.Duration
	for _, d := range r.RTTs {
		sum += d
	}
	return sum / time.Duration(len(r.RTTs))
}

func (r PingResult) Max() (most time.Duration) {
	for _, d := range r.RTTs {
		most = max(most, d)
	}
	return most
}

// echoFamily is what differs between ICMP and ICMPv6.
type echoFamily struct {
	network, any   string
	protocol       int
	request, reply icmp.Type
}

var (
	echo4 = echoFamily{"ip4:icmp", "0.0.0.0", 1, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply}
	echo6 = echoFamily{"ip6:ipv6-icmp", "::", 58, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply}
)

// Ping sends count echo requests of size bytes (IP header included) to dst, one
// every interval, each when the one before was answered or has waited for a
// second. It ends early with ctx.
func (h *Host) Ping(ctx context.Context, dst netip.Addr, count, size int, interval time.Duration) (PingResult, error) {
	family, headers := echo4, 28
	if dst.Is6() {
		family, headers = echo6, 48
	}
	c, err := h.ListenPacket(family.network, family.any)
	if err != nil {
		return PingResult{}, fmt.Errorf("ping from %s: %w", h.name, err)
	}
	defer c.Close()
	// The port-like identifier is ours alone: raw sockets see each other's answers.
	p := pinger{conn: c, family: family, dst: dst, id: int(pings.Add(1) & 0xffff), body: make([]byte, max(0, size-headers))}
	var result PingResult
	next := time.NewTicker(interval)
	defer next.Stop()
	for seq := range count {
		if seq > 0 {
			select {
			case <-next.C:
			case <-ctx.Done():
				return result, nil
			}
		}
		rtt, answered, err := p.echo(seq)
		if err != nil {
			return result, fmt.Errorf("ping from %s: %w", h.name, err)
		}
		result.Sent++
		if answered {
			result.RTTs = append(result.RTTs, rtt)
		}
	}
	return result, nil
}

// pings numbers the series of echoes.
var pings atomic.Uint32

type pinger struct {
	conn   net.PacketConn
	family echoFamily
	dst    netip.Addr
	id     int
	body   []byte
}

// echo sends one request and waits for its answer for at most a second. A send
// error counts as no answer: that is what a missing route is to ping.
func (p *pinger) echo(seq int) (rtt time.Duration, answered bool, err error) {
	if len(p.body) >= 8 {
		binary.BigEndian.PutUint64(p.body, uint64(seq)) // no two packets are alike
	}
	m := icmp.Message{Type: p.family.request, Body: &icmp.Echo{ID: p.id, Seq: seq, Data: p.body}}
	b, err := m.Marshal(nil) // the kernel fills in the ICMPv6 checksum
	if err != nil {
		return 0, false, err
	}
	sent := time.Now()
	p.conn.SetReadDeadline(sent.Add(time.Second))
	if _, err := p.conn.WriteTo(b, &net.IPAddr{IP: p.dst.AsSlice()}); err != nil {
		time.Sleep(time.Until(sent.Add(time.Second)))
		return 0, false, nil
	}
	buf := make([]byte, 65536)
	for {
		n, from, err := p.conn.ReadFrom(buf)
		if err != nil {
			return 0, false, nil
		}
		rtt = time.Since(sent)
		m, err := icmp.ParseMessage(p.family.protocol, buf[:n])
		if err != nil || m.Type != p.family.reply {
			continue
		}
		echo, ok := m.Body.(*icmp.Echo)
		if ok && echo.ID == p.id && echo.Seq == seq && from.(*net.IPAddr).IP.Equal(p.dst.AsSlice()) {
			return rtt, true, nil
		}
	}
}
