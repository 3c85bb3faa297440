// SPDX-License-Identifier: Apache-2.0

//go:build linux

package demo

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// What the checks ask for.
const (
	flows   = 8 // of each measurement of throughput
	warmUp  = 2 * time.Second
	measure = 3 * time.Second

	minPlain     = 0.93                 // of a link's rate
	maxPingError = 3 * time.Millisecond // from a link's round-trip time
	minSingle    = 0.85                 // of plain TCP on the same link
	minBoth      = 0.80                 // of the sum of the two
	minShare     = 0.25                 // of the bytes, on each link

	transferFlows   = 4
	transferTime    = 5500 * time.Millisecond // of the whole transfer, at the rate of both links
	cutAt           = 0.40                    // of the transfer
	cutAtMost       = 0.60                    // later it would not be in the middle
	cutFor          = 3 * time.Second
	maxGap          = 500 * time.Millisecond
	maxReturn       = 10 * time.Second
	returnedShare   = 0.05 // of the link's rate: more than probes and keep-alives
	returnedOver    = 300 * time.Millisecond
	maxTransferTime = 25 * time.Second
)

// checkEmulator is check (a): without a VPN the links are what they claim to be.
func (r *runner) checkEmulator(ctx context.Context) error {
	r.view.say("\nWithout a VPN, each link alone:")
	var peers []*lab.Peer
	for i := range r.links {
		// On the router, which is the far end of the link.
		peer, err := lab.NewPeer(r.net.Router, netip.AddrPortFrom(routerAddr(i), peerPort))
		if err != nil {
			return err
		}
		defer peer.Close()
		peers = append(peers, peer)
	}
	if err := r.measured(ctx, r.checkPing); err != nil {
		return err
	}
	if err := r.checkMarkerIsSeen(ctx, peers[0]); err != nil {
		return err
	}
	return r.measured(ctx, func(ctx context.Context) error { return r.checkPlain(ctx, peers) })
}

// checkPlain measures TCP over both links, which have nothing in common, at once.
func (r *runner) checkPlain(ctx context.Context, peers []*lab.Peer) error {
	bulks, err := floods(ctx, r.client, peers...)
	if err != nil {
		return err
	}
	defer closeAll(bulks)
	r.sampler.Begin("no VPN", nil, lab.Received(bulks...))
	var run sync.WaitGroup
	errs := make([]error, len(bulks))
	for i, b := range bulks {
		run.Go(func() { r.plain[i], errs[i] = b.Goodput(ctx, warmUp, measure) })
	}
	run.Wait()
	r.sampler.End()
	for i, l := range r.report.Links {
		least := minPlain * l.Rate
		mbps := r.plain[i] / 1e6
		r.check(mbps >= least && mbps <= l.Rate, "plain-"+l.Name, "Mbit/s", mbps,
			fmt.Sprintf("%.1f to %.1f", least, l.Rate), "link %s without a VPN: TCP, %d flows", l.Name, flows)
	}
	return errors.Join(errs...)
}

// checkPing compares the round-trip time of the idle links with their delay.
func (r *runner) checkPing(ctx context.Context) error {
	var run sync.WaitGroup
	errs := make([]error, len(r.links))
	results := make([]lab.PingResult, len(r.links))
	r.sampler.Begin("ping", nil, nil)
	for i := range r.links {
		run.Go(func() {
			results[i], errs[i] = r.client.Ping(ctx, routerAddr(i), 20, 84, 20*time.Millisecond)
		})
	}
	run.Wait()
	r.sampler.End()
	for i, l := range r.links {
		rtt := results[i].Mean()
		r.check(results[i].Received() == results[i].Sent && (rtt-l.RTT()).Abs() <= maxPingError,
			"ping-"+l.Name(), "ms", milliseconds(rtt), fmt.Sprintf("%.0f ± %.0f", milliseconds(l.RTT()), milliseconds(maxPingError)),
			"link %s without a VPN: ping", l.Name())
	}
	return errors.Join(errs...)
}

// checkMarkerIsSeen makes sure that check (d) can fail: a probe outside the tunnel
// is seen on the link.
func (r *runner) checkMarkerIsSeen(ctx context.Context, peer *lab.Peer) error {
	ctx, cancel := context.WithTimeout(ctx, setUpTime)
	defer cancel()
	probe, err := peer.StartProbe(ctx, r.client)
	if err != nil {
		return err
	}
	defer probe.Close()
	seen := r.links[0].CountMarker(probe.Marker())
	for seen() == 0 {
		select {
		case <-ctx.Done():
			return errors.New("the emulator does not see a probe that is not encrypted")
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// checkSingle is the first half of check (b): the tunnel over each link alone.
func (r *runner) checkSingle(ctx context.Context) error {
	for i, l := range r.links {
		client, err := r.startClient(ctx, i)
		if err != nil {
			return err
		}
		err = r.measured(ctx, func(ctx context.Context) (err error) {
			r.single[i], _, err = r.throughput(ctx, "tunnel over "+l.Name())
			least := minSingle * r.plain[i]
			r.check(r.single[i] >= least, "tunnel-"+l.Name(), "Mbit/s", r.single[i]/1e6, fmt.Sprintf("at least %.1f", least/1e6),
				"mqvpn over link %s alone: TCP, %d flows", l.Name(), flows)
			return err
		})
		if err := errors.Join(err, stopClient(client)); err != nil {
			return err
		}
	}
	return nil
}

// checkBoth is the second half of check (b), and (c) and (d), with one client over
// both links.
func (r *runner) checkBoth(ctx context.Context) error {
	client, err := r.startClient(ctx, 0, 1)
	if err != nil {
		return err
	}
	if err := r.measured(ctx, r.checkBond); err != nil {
		return errors.Join(err, clientOutput(client))
	}
	for i := range r.links {
		if err := r.measured(ctx, func(ctx context.Context) error { return r.checkCut(ctx, i) }); err != nil {
			return errors.Join(err, clientOutput(client))
		}
	}
	var seen uint64
	for _, count := range r.markers {
		seen += count()
	}
	r.check(seen == 0, "secrecy", "packets", float64(seen), "0", "contents of the tunnel seen in clear on a link")
	return stopClient(client)
}

// clientOutput is an error that shows what the client has printed.
func clientOutput(p *lab.Process) error {
	return fmt.Errorf("output of mqvpn-client:\n%s", p.Output())
}

// checkBond measures both links together.
func (r *runner) checkBond(ctx context.Context) error {
	var samples []lab.Sample
	var err error
	if r.both, samples, err = r.throughput(ctx, "tunnel over both"); err != nil {
		return err
	}
	least := minBoth * (r.single[0] + r.single[1])
	r.check(r.both >= least, "tunnel-both", "Mbit/s", r.both/1e6, fmt.Sprintf("at least %.1f", least/1e6),
		"mqvpn over both links: TCP, %d flows", flows)
	carried := make([]float64, len(r.links))
	var total, delay, worst float64
	for _, s := range samples {
		for i, l := range s.Links {
			carried[i] += l.Down
			total += l.Down
		}
		rtt := s.Probe.UpDelay + s.Probe.DownDelay
		delay += rtt / float64(len(samples))
		worst = max(worst, rtt)
	}
	for i, l := range r.links {
		share := carried[i] / total
		r.check(share >= minShare, "share-"+l.Name(), "%", 100*share, fmt.Sprintf("at least %.0f", 100*minShare),
			"    of it carried by link %s", l.Name())
	}
	var far time.Duration
	for _, l := range r.links {
		far = max(far, l.RTT())
	}
	r.check(delay <= milliseconds(far), "delay-under-load", "ms", delay, fmt.Sprintf("at most %.0f", milliseconds(far)),
		"    meanwhile, round trip of a call's packets: mean")
	r.check(true, "worst-delay-under-load", "ms", worst, "", "    meanwhile, round trip of a call's packets: worst 0.1 s")
	return nil
}

// throughput measures TCP from behind the server to the client, with the probe
// running. The samples are those after the warm-up.
func (r *runner) throughput(ctx context.Context, phase string) (bitsPerSecond float64, samples []lab.Sample, err error) {
	probe, err := r.startProbe(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer probe.Close()
	bulks, err := floods(ctx, r.client, r.peer)
	if err != nil {
		return 0, nil, err
	}
	defer closeAll(bulks)
	began := r.sampler.Elapsed()
	r.sampler.Begin(phase, probe, bulks[0].Received)
	bitsPerSecond, err = bulks[0].Goodput(ctx, warmUp, measure)
	samples = slices.DeleteFunc(r.sampler.End(), func(s lab.Sample) bool { return s.Time < (began + warmUp).Seconds() })
	return bitsPerSecond, samples, err
}

// checkCut is check (c) for one link: it goes silent in the middle of a transfer.
func (r *runner) checkCut(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeout(ctx, maxTransferTime+setUpTime)
	defer cancel()
	l := r.links[i]
	probe, err := r.startProbe(ctx)
	if err != nil {
		return err
	}
	defer probe.Close()
	size := int64(r.both / 8 * transferTime.Seconds())
	transfer, err := r.peer.Transfer(ctx, r.client, lab.Down, transferFlows, size)
	if err != nil {
		return err
	}
	defer transfer.Close()
	r.sampler.Begin("link "+l.Name()+" fails", probe, transfer.Received)

	if err := waitUntil(ctx, func() bool { return transfer.Received() >= int64(cutAt*float64(size)) }); err != nil {
		return fmt.Errorf("waiting for %.0f %% of the transfer: %w", 100*cutAt, err)
	}
	l.SetSilent(true)
	cut := r.announce("link %s cut", l.Name())
	at := float64(transfer.Received()) / float64(size)
	if err := waitUntil(ctx, func() bool { return r.sampler.Elapsed().Seconds() >= cut.Time+cutFor.Seconds() }); err != nil {
		return err
	}
	l.SetSilent(false)
	repair := r.announce("link %s repaired", l.Name())
	back, err := r.waitForReturn(ctx, i, transfer)
	if err != nil {
		return err
	}
	select {
	case <-transfer.Done():
	case <-ctx.Done():
		return fmt.Errorf("%d of %d bytes of the transfer have arrived: %w", transfer.Received(), transfer.Size(), context.Cause(ctx))
	}
	samples := r.sampler.End()
	if err := transfer.Err(); err != nil {
		r.view.say("    %v", err)
	}
	r.check(transfer.Err() == nil && at <= cutAtMost, "transfer-"+l.Name(), "%", 100*float64(transfer.Received())/float64(transfer.Size()), "100, same SHA-256",
		"link %s silent for %.0f s in a transfer of %d MB: arrived", l.Name(), cutFor.Seconds(), size/1e6)
	up, down := longestGaps(samples, cut.Time)
	for _, way := range []struct {
		name string
		gap  float64
	}{{"up", up}, {"down", down}} {
		r.check(way.gap <= milliseconds(maxGap), "gap-"+l.Name()+"-"+way.name, "ms", way.gap, fmt.Sprintf("at most %.0f", milliseconds(maxGap)),
			"    longest silence of a call, %s", way.name)
	}
	r.check(back <= maxReturn, "return-"+l.Name(), "s", back.Seconds(), fmt.Sprintf("at most %.0f", maxReturn.Seconds()),
		"    link %s carries data again, %.0f s cut, after its repair", l.Name(), repair.Time-cut.Time)
	return nil
}

// waitForReturn waits until a repaired link carries data again, with traffic that
// needs it, and returns how long that took; more than maxReturn if it did not.
func (r *runner) waitForReturn(ctx context.Context, i int, transfer *lab.Bulk) (time.Duration, error) {
	began := time.Now()
	l := r.links[i]
	needed := uint64(returnedShare * r.report.Links[i].Rate * 1e6 / 8 * returnedOver.Seconds())
	var more []*lab.Bulk // keeps the links busy when the transfer is over
	defer func() { closeAll(more) }()
	for time.Since(began) <= maxReturn {
		window, before := time.Now(), l.Counters(lab.BtoA).Bytes
		for time.Since(window) < returnedOver {
			if err := pause(ctx); err != nil {
				return 0, err
			}
			if l.Counters(lab.BtoA).Bytes-before >= needed {
				return time.Since(began), nil
			}
		}
		select {
		case <-transfer.Done():
			if more == nil {
				var err error
				if more, err = floods(ctx, r.client, r.peer); err != nil {
					return 0, err
				}
			}
		default:
		}
	}
	return time.Since(began), nil
}

// longestGaps are the probe's, in milliseconds, from the time of a cut on.
func longestGaps(samples []lab.Sample, cut float64) (up, down float64) {
	for _, s := range samples {
		if s.Time >= cut && s.Probe != nil {
			up, down = max(up, s.Probe.UpGap), max(down, s.Probe.DownGap)
		}
	}
	return up, down
}

// startProbe starts a probe through the tunnel and looks for it on the links.
func (r *runner) startProbe(ctx context.Context) (*lab.Probe, error) {
	ctx, cancel := context.WithTimeout(ctx, setUpTime)
	defer cancel()
	probe, err := r.peer.StartProbe(ctx, r.client)
	if err != nil {
		return nil, err
	}
	for _, l := range r.links {
		r.markers = append(r.markers, l.CountMarker(probe.Marker()))
	}
	return probe, nil
}

// routerAddr is the far end of the client's link i.
func routerAddr(i int) netip.Addr {
	return lab.ClientAddr(0, i).Prev()
}

// floods starts the flows of a measurement to each of the peers.
func floods(ctx context.Context, from *lab.Host, peers ...*lab.Peer) ([]*lab.Bulk, error) {
	ctx, cancel := context.WithTimeout(ctx, setUpTime)
	defer cancel()
	var bulks []*lab.Bulk
	for _, p := range peers {
		b, err := p.Flood(ctx, from, lab.Down, flows)
		if err != nil {
			closeAll(bulks)
			return nil, err
		}
		bulks = append(bulks, b)
	}
	return bulks, nil
}

func closeAll(bulks []*lab.Bulk) {
	for _, b := range bulks {
		b.Close()
	}
}

// pause is the step of everything that waits for a counter.
func pause(ctx context.Context) error {
	select {
	case <-time.After(5 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func waitUntil(ctx context.Context, condition func() bool) error {
	for !condition() {
		if err := pause(ctx); err != nil {
			return err
		}
	}
	return nil
}
