// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/mqvpn/mqvpn/masque"
	"github.com/mqvpn/mqvpn/quic"
)

var errUnknownCommand = errors.New("unknown command")

// pathStatus is one path in the answer to get_status. Bytes are those of whole IP
// packets, as a counter on the link would see them. Names that the C implementation
// has mean the same.
type pathStatus struct {
	ID       uint64         `json:"path_id"`
	Name     string         `json:"name,omitempty"` // interface, at the client
	State    string         `json:"state_label"`
	Used     bool           `json:"used"`
	Reason   string         `json:"reason,omitempty"` // why it is not used
	Local    netip.AddrPort `json:"local"`
	Remote   netip.AddrPort `json:"remote"`
	SRTTms   int64          `json:"srtt_ms"`
	MinRTTms int64          `json:"min_rtt_ms"`
	SRTTus   int64          `json:"srtt_us"`
	Cwnd     int            `json:"cwnd"`
	InFlight int            `json:"in_flight"`
	BytesTx  uint64         `json:"bytes_tx"`
	BytesRx  uint64         `json:"bytes_rx"`
	PktSent  uint64         `json:"pkt_sent"`
	PktRecv  uint64         `json:"pkt_recv"`
	PktLost  uint64         `json:"pkt_lost"`
	Rate     float64        `json:"rate_bps"`   // estimated, bit/s
	Loss     float64        `json:"loss"`       // fraction, lately
	MTU      int            `json:"mtu"`        // largest IP packet on the link
	ECN      string         `json:"ecn"`        // testing, unknown, capable, failed
	Share    float64        `json:"share"`      // of the bytes sent
	ShareNow float64        `json:"share_now"`  // of those sent in the last second
	Weight   float64        `json:"weight_bps"` // that the scheduler gives it, bit/s
	Pins     int            `json:"pins"`       // flows that the scheduler keeps on it
	Priority string         `json:"priority"`
	StateSec float64        `json:"state_sec"` // how long it has been in its state
}

// clientStatus is a client's answer to get_status.
type clientStatus struct {
	Mode      Mode           `json:"mode"`
	Version   string         `json:"version"`
	State     string         `json:"state"` // up, connecting
	Error     string         `json:"error_message,omitempty"`
	Server    string         `json:"server,omitempty"`
	Interface string         `json:"tun_name"`
	Addresses []netip.Prefix `json:"addresses"`
	MTU       int            `json:"mtu"`
	Connected int64          `json:"connected_sec"`
	Uptime    int64          `json:"uptime_sec"`
	traffic
	Paths []pathStatus `json:"paths"`
}

// traffic counts inner packets: tx is towards the peer.
type traffic struct {
	BytesTx   uint64            `json:"bytes_tx"`
	BytesRx   uint64            `json:"bytes_rx"`
	DgramSent uint64            `json:"dgram_sent"`
	DgramRecv uint64            `json:"dgram_recv"`
	Dropped   map[string]uint64 `json:"dropped"` // packets, by reason
}

// serverStatus is a server's answer to get_status.
type serverStatus struct {
	Mode      Mode           `json:"mode"`
	Version   string         `json:"version"`
	Interface string         `json:"tun_name"`
	Addresses []netip.Prefix `json:"addresses"`
	MTU       int            `json:"mtu"`
	Uptime    int64          `json:"uptime_sec"`
	Count     int            `json:"n_clients"`
	Clients   []peerStatus   `json:"clients"`
}

// peerStatus is one client of a server.
type peerStatus struct {
	User      string       `json:"user"`
	Endpoint  string       `json:"endpoint"`
	Addresses []netip.Addr `json:"addresses"`
	Connected int64        `json:"connected_sec"`
	traffic
	Paths []pathStatus `json:"paths"`
}

// serverStats is a server's answer to get_stats. As in the C implementation, tx is
// what the clients got.
type serverStats struct {
	Count   int    `json:"n_clients"`
	Uptime  int64  `json:"uptime_sec"`
	Refused uint64 `json:"refused"` // wrong keys
	traffic
}

func newPathStatus(st quic.ConnStats) []pathStatus {
	out := []pathStatus{}
	var total uint64
	for _, p := range st.Paths {
		headers := uint64(20 + 8) // IP and UDP
		if p.Remote.Addr().Is6() {
			headers = 40 + 8
		}
		ps := pathStatus{
			ID: uint64(p.ID), Name: p.Label, State: p.State,
			Used: p.Reason == "", Reason: p.Reason,
			Local: p.Local, Remote: p.Remote,
			SRTTms: p.SRTT.Milliseconds(), MinRTTms: p.MinRTT.Milliseconds(), SRTTus: p.SRTT.Microseconds(),
			Cwnd: p.Cwnd, InFlight: p.InFlight,
			BytesTx: p.BytesSent + headers*p.PacketsSent, BytesRx: p.BytesReceived + headers*p.PacketsReceived,
			PktSent: p.PacketsSent, PktRecv: p.PacketsReceived, PktLost: p.PacketsLost,
			Rate: p.Rate * 8, Loss: p.Loss, MTU: p.MTU + int(headers), ECN: p.ECN,
			ShareNow: p.Share, Weight: p.Weight * 8, Pins: p.Pins, Priority: priorityName(p.Priority), StateSec: p.Since.Seconds(),
		}
		total += ps.BytesTx
		out = append(out, ps)
	}
	for i := range out {
		out[i].Share = float64(out[i].BytesTx) / float64(max(total, 1))
	}
	return out
}

func (t *traffic) add(session *masque.Session, conn quic.ConnStats) {
	st := session.Stats()
	t.BytesTx += st.Sent.Bytes
	t.BytesRx += st.Received.Bytes
	t.DgramSent += conn.DatagramsSent
	t.DgramRecv += conn.DatagramsReceived
	for r := range masque.DropReasons {
		t.drop(r.String(), st.Sent.Dropped[r]+st.Received.Dropped[r])
	}
	t.drop("queue_full", conn.DatagramsDropped)
	t.drop("queue_delay", conn.DatagramsDelayed)
	t.drop("too_large", conn.DatagramsTooLarge)
}

func (t *traffic) drop(reason string, n uint64) {
	if t.Dropped == nil {
		t.Dropped = map[string]uint64{}
	}
	if n > 0 {
		t.Dropped[reason] += n
	}
}

func (t *traffic) addTUN(w *tunWriter, r *router) {
	t.drop("tun_queue_full", w.dropped.Load())
	t.drop("tun_refused", w.refused.Load())
	t.drop("tun_unreadable", w.dev.Dropped())
	t.drop("no_session", r.noRoute.Load())
}

func seconds(since time.Time) int64 { return int64(time.Since(since).Seconds()) }

// control answers a request at the control socket.
func (c *client) control(req controlRequest) (any, error) {
	switch req.Cmd {
	case "get_status":
		return c.status(), nil
	case "path_add":
		return nil, c.addInterface(req.Path)
	case "path_remove":
		return nil, c.removeInterface(req.Path)
	case "path_priority":
		return nil, c.setPriority(req.Path, req.Priority)
	}
	return nil, errUnknownCommand
}

func (c *client) status() clientStatus {
	st := clientStatus{
		Mode: ModeClient, Version: Version(), State: "connecting",
		Interface: c.dev.Name(), Uptime: seconds(c.started),
	}
	c.mu.Lock()
	t := c.current
	if c.lastErr != nil {
		st.Error = c.lastErr.Error()
	}
	unusable := []pathStatus{}
	if t != nil {
		for iface, p := range t.paths {
			if p.err != nil {
				unusable = append(unusable, pathStatus{Name: iface, State: "unavailable", Reason: p.err.Error(), Priority: priorityName(c.priorityOf(iface))})
			}
		}
	}
	silent := c.silent
	c.mu.Unlock()
	if t == nil {
		st.Paths = unusable
		return st
	}
	conn := t.conn.Stats()
	switch {
	case t.conn.Err() != nil:
		st.Error = t.endReason().Error()
	case silent:
		st.Error = cmp.Or(st.Error, "the server does not answer on any path")
	default:
		st.State, st.Error = "up", ""
	}
	st.Server, st.Connected = t.remote.String(), seconds(t.since)
	st.Addresses, st.MTU = t.session.Assigned(), t.session.MTU()
	st.traffic.add(t.session, conn)
	st.traffic.addTUN(c.writer, c.router)
	slices.SortFunc(unusable, func(a, b pathStatus) int { return cmp.Compare(a.Name, b.Name) })
	st.Paths = append(newPathStatus(conn), unusable...)
	return st
}

func (s *server) control(req controlRequest) (any, error) {
	switch req.Cmd {
	case "get_status":
		return s.status(), nil
	case "get_stats":
		return s.stats(), nil
	case "list_users":
		return struct {
			Users []string `json:"users"`
		}{s.auth.names}, nil
	}
	return nil, errUnknownCommand
}

// open returns the sessions whose tunnel is open, in the order of their addresses.
func (s *server) open() []*serverSession {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*serverSession
	for n := range s.sessions {
		if n.session != nil {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b *serverSession) int { return cmp.Compare(a.lease.place, b.lease.place) })
	return list
}

func (s *server) status() serverStatus {
	v4, v6 := s.pool.server()
	st := serverStatus{
		Mode: ModeServer, Version: Version(), Interface: s.dev.Name(), MTU: s.mtu,
		Addresses: []netip.Prefix{v4}, Uptime: seconds(s.started), Clients: []peerStatus{},
	}
	if v6.IsValid() {
		st.Addresses = append(st.Addresses, v6)
	}
	for _, n := range s.open() {
		conn := n.conn.Stats()
		p := peerStatus{
			User: n.name, Endpoint: n.remote.String(), Connected: seconds(n.since),
			Paths: newPathStatus(conn),
		}
		s.mu.Lock()
		p.Addresses = n.offered
		s.mu.Unlock()
		p.traffic.add(n.session, conn)
		st.Clients = append(st.Clients, p)
	}
	st.Count = len(st.Clients)
	return st
}

func (s *server) stats() serverStats {
	st := serverStats{Uptime: seconds(s.started)}
	for _, n := range s.open() {
		st.Count++
		st.traffic.add(n.session, n.conn.Stats())
	}
	st.traffic.addTUN(s.writer, s.router)
	s.mu.Lock()
	st.Refused = s.refusals
	s.mu.Unlock()
	return st
}

// startControl opens the control socket. One at the default place is a convenience:
// without it the program runs all the same. The result may be nil.
func startControl(cfg *Config, log *slog.Logger, handle func(controlRequest) (any, error)) (*controlServer, error) {
	path := cfg.Control
	if path == "off" {
		return nil, nil
	}
	if path != "" {
		return listenControl(path, handle)
	}
	dir, err := makeStateDir()
	if err != nil {
		log.Warn("no control socket", "error", err)
		return nil, nil
	}
	s, err := listenControl(filepath.Join(dir, cfg.TunName+".sock"), handle)
	if err != nil {
		log.Warn("no control socket; \"status\" will not work", "error", err)
	}
	return s, nil
}

// printStatus asks the program at path and prints what it says.
func printStatus(ctx context.Context, path string, asJSON bool, out io.Writer) error {
	line, err := askControl(ctx, path, controlRequest{Cmd: "get_status"})
	if err != nil {
		return err
	}
	if asJSON {
		_, err := out.Write(line)
		return err
	}
	var mode struct{ Mode Mode }
	if err := json.Unmarshal(line, &mode); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if mode.Mode == ModeServer {
		return printServer(line, out)
	}
	return printClient(line, out)
}

func printClient(line []byte, out io.Writer) error {
	var st clientStatus
	if err := json.Unmarshal(line, &st); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if st.State != "up" {
		fmt.Fprintf(out, "%s: %s\n", st.State, cmp.Or(st.Error, "waiting for the server"))
		return nil
	}
	fmt.Fprintf(out, "up for %v, server %s\n", time.Duration(st.Connected)*time.Second, st.Server)
	fmt.Fprintf(out, "%s %v, MTU %d, sent %s, received %s\n", st.Interface, st.Addresses, st.MTU, size(st.BytesTx), size(st.BytesRx))
	return printPaths(st.Paths, out)
}

func printServer(line []byte, out io.Writer) error {
	var st serverStatus
	if err := json.Unmarshal(line, &st); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	fmt.Fprintf(out, "up for %v, %s %v, MTU %d, %d clients\n", time.Duration(st.Uptime)*time.Second, st.Interface, st.Addresses, st.MTU, st.Count)
	for _, c := range st.Clients {
		fmt.Fprintf(out, "\n%s from %s, %v, for %v, sent %s, received %s\n", c.User, c.Endpoint, c.Addresses,
			time.Duration(c.Connected)*time.Second, size(c.BytesTx), size(c.BytesRx))
		if err := printPaths(c.Paths, out); err != nil {
			return err
		}
	}
	return nil
}

func printPaths(paths []pathStatus, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PATH\tSTATE\tFOR\tPRIORITY\tLOCAL\tREMOTE\tRTT\tRATE\tLOSS\tCWND\tSENT\tRECEIVED\tSHARE\tNOT USED BECAUSE")
	for _, p := range paths {
		local, remote := "-", "-"
		if p.Local.IsValid() {
			local, remote = p.Local.String(), p.Remote.String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%.1f ms\t%.1f Mbit/s\t%.1f %%\t%s\t%s\t%s\t%.0f %%\t%s\n",
			p.label(), p.State, p.inState(), p.Priority, local, remote, float64(p.SRTTus)/1000, p.Rate/1e6, p.Loss*100,
			size(uint64(p.Cwnd)), size(p.BytesTx), size(p.BytesRx), p.Share*100, cmp.Or(p.Reason, "-"))
	}
	return w.Flush()
}

// label is the interface, or the path id where there is none.
func (p *pathStatus) label() string { return cmp.Or(p.Name, fmt.Sprint(p.ID)) }

// inState is how long the path has been in its state.
func (p *pathStatus) inState() string {
	return (time.Duration(p.StateSec) * time.Second).String()
}

// size prints a number of bytes with a unit.
func size(n uint64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, i := float64(n), 0
	for f >= 1000 && i < len(units)-1 {
		f, i = f/1000, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
