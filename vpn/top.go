// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"
)

// topInterval is between two tables of the command top.
const topInterval = time.Second

// topPath is a path of a client's or a server's status. The user is that of a client
// of the server.
type topPath struct {
	user string
	pathStatus
}

// topSample is what the program has counted at a time.
type topSample struct {
	at    time.Time
	paths []topPath
}

// top is the command top: it asks the program at the socket every second and prints
// what its paths did meanwhile, until ctx ends or the program does. A terminal is
// cleared before each table.
func top(ctx context.Context, socket string, out io.Writer) error {
	tick := time.NewTicker(topInterval)
	defer tick.Stop()
	clear := ""
	if isTerminal(out) {
		clear = "\x1b[H\x1b[2J"
	}
	var last topSample
	for {
		line, err := askControl(ctx, socket, controlRequest{Cmd: "get_status"})
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		now, err := readTop(line)
		if err != nil {
			return err
		}
		if !last.at.IsZero() {
			fmt.Fprint(out, clear)
			if err := now.print(last, out); err != nil {
				return err
			}
		}
		last = now
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// readTop takes the paths out of an answer to get_status.
func readTop(line []byte) (topSample, error) {
	var st struct {
		Paths   []pathStatus `json:"paths"`
		Clients []peerStatus `json:"clients"`
	}
	if err := json.Unmarshal(line, &st); err != nil {
		return topSample{}, fmt.Errorf("control socket: %w", err)
	}
	s := topSample{at: time.Now()}
	for _, p := range st.Paths {
		s.paths = append(s.paths, topPath{"", p})
	}
	for _, c := range st.Clients {
		for _, p := range c.Paths {
			s.paths = append(s.paths, topPath{c.User, p})
		}
	}
	return s, nil
}

// print writes a table of what has happened since last.
func (s topSample) print(last topSample, out io.Writer) error {
	type key struct {
		user, name string
		id         uint64
	}
	before := map[key]pathStatus{}
	for _, p := range last.paths {
		before[key{p.user, p.Name, p.ID}] = p.pathStatus
	}
	seconds := s.at.Sub(last.at).Seconds()
	mbps := func(now, then uint64) float64 {
		return float64(now-min(now, then)) * 8 / 1e6 / seconds // a reconnect counts from 0 again
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "USER\tPATH\tSTATE\tFOR\tPRIORITY\tSENDS\tRECEIVES\tSHARE\tWEIGHT\tFLOWS\tRTT\tLOSS\tCWND\tNOT USED BECAUSE")
	for _, p := range s.paths {
		then := before[key{p.user, p.Name, p.ID}]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.1f Mbit/s\t%.1f Mbit/s\t%.0f %%\t%.1f Mbit/s\t%d\t%.1f ms\t%.1f %%\t%s\t%s\n",
			cmp.Or(p.user, "-"), p.label(), p.State, p.inState(), cmp.Or(p.Priority, "-"),
			mbps(p.BytesTx, then.BytesTx), mbps(p.BytesRx, then.BytesRx), 100*p.ShareNow, p.Weight/1e6, p.Pins,
			float64(p.SRTTus)/1000, 100*p.Loss, size(uint64(p.Cwnd)), cmp.Or(p.Reason, "-"))
	}
	fmt.Fprintln(w)
	return w.Flush()
}
