// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
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
	domain, protocol int
	request, reply   icmp.Type
}

var (
	echo4 = echoFamily{unix.AF_INET, unix.IPPROTO_ICMP, ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply}
	echo6 = echoFamily{unix.AF_INET6, unix.IPPROTO_ICMPV6, ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply}
)

const (
	// echoTime is how long an answer is awaited.
	echoTime = time.Second
	// echoCheck is how often that is looked at.
	echoCheck = 20 * time.Millisecond
)

// Ping sends count echo requests of size bytes (IP header included) to dst, one
// every interval, each when the one before was answered or has waited for a
// second. It ends early with ctx.
func (h *Host) Ping(ctx context.Context, dst netip.Addr, count, size int, interval time.Duration) (PingResult, error) {
	p := pinger{dst: dst}
	headers := 28
	if dst.Is6() {
		p.family, p.to, headers = echo6, &unix.SockaddrInet6{Addr: dst.As16()}, 48
	} else {
		p.family, p.to = echo4, &unix.SockaddrInet4{Addr: dst.As4()}
	}
	// The port-like identifier is ours alone: raw sockets see each other's answers.
	p.id, p.body = int(pings.Add(1)&0xffff), make([]byte, max(0, size-headers))
	check := unix.NsecToTimeval(int64(echoCheck))
	err := h.Do(func() (err error) {
		if p.fd, err = unix.Socket(p.family.domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, p.family.protocol); err != nil {
			return err
		}
		if err = unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &check); err != nil {
			unix.Close(p.fd)
		}
		return err
	})
	if err != nil {
		return PingResult{}, fmt.Errorf("ping from %s: %w", h.name, err)
	}
	defer unix.Close(p.fd)
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

// pinger has a blocking socket: through Go's poller an answer would be seen later, by
// more than it takes on a fast way.
type pinger struct {
	fd     int
	family echoFamily
	dst    netip.Addr
	to     unix.Sockaddr
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
	buf := make([]byte, 65536)
	sent := time.Now()
	if err := unix.Sendto(p.fd, b, 0, p.to); err != nil {
		time.Sleep(time.Until(sent.Add(echoTime)))
		return 0, false, nil
	}
	for {
		n, from, err := unix.Recvfrom(p.fd, buf, 0)
		if rtt = time.Since(sent); rtt > echoTime {
			return 0, false, nil
		}
		if err == nil && p.isAnswer(buf[:n], from, seq) {
			return rtt, true, nil
		}
	}
}

// isAnswer says whether b, as received from a raw socket, answers a request.
func (p *pinger) isAnswer(b []byte, from unix.Sockaddr, seq int) bool {
	var source netip.Addr
	switch a := from.(type) {
	case *unix.SockaddrInet4:
		source = netip.AddrFrom4(a.Addr)
		if len(b) == 0 || len(b) < int(b[0]&0xf)*4 {
			return false
		}
		b = b[b[0]&0xf*4:] // behind the header, which IPv6 does not show
	case *unix.SockaddrInet6:
		source = netip.AddrFrom16(a.Addr)
	}
	m, err := icmp.ParseMessage(p.family.protocol, b)
	if err != nil || m.Type != p.family.reply {
		return false
	}
	echo, ok := m.Body.(*icmp.Echo)
	return ok && echo.ID == p.id && echo.Seq == seq && source == p.dst
}
