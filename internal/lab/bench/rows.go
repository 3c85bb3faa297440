// SPDX-License-Identifier: Apache-2.0

//go:build linux

package bench

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/mqvpn/mqvpn/internal/lab"
)

// values are the results of one measurement, by metric.
type values map[string]float64

// row is one kind of measurement.
type row struct {
	id        string // stable
	byDefault bool
	subjects  kind
	paths     int // of the world that it uses; 0: it gets a server of its own without a client
	metrics   []string
	measure   func(ctx context.Context, w *world, d time.Duration) (values, error)
}

// The metrics.
const (
	mbps         = "mbps" // of payload that arrived
	pps          = "packets_per_s"
	cpu          = "cpu_s_per_gb" // both ends, per GB of payload that arrived
	clientCPU    = "client_cpu_s_per_gb"
	serverCPU    = "server_cpu_s_per_gb"
	clientCores  = "client_cores" // processors that the end used
	serverCores  = "server_cores"
	pingMedian   = "ping_median_ms"
	pingP99      = "ping_p99_ms"
	clientIdle   = "client_idle_percent" // of a core
	serverIdle   = "server_idle_percent"
	clientRSS    = "client_idle_mb"
	serverRSS    = "server_idle_mb"
	clientPeak   = "client_peak_mb"
	serverPeak   = "server_peak_mb"
	upMbps       = "up_mbps"
	downMbps     = "down_mbps"
	upCores      = "up_server_cores"
	downCores    = "down_server_cores"
	upCPU        = "up_server_cpu_s_per_gb"
	downCPU      = "down_server_cpu_s_per_gb"
	handshakes   = "handshakes_per_s"
	handshakeCPU = "server_cpu_ms_per_handshake"
	perClient    = "server_kb_per_client"
	serverGrowth = "server_growth_mb"
)

// metrics says how each metric is shown: decimals and unit.
var metrics = map[string]struct {
	decimals int
	unit     string
}{
	mbps:         {0, "Mbit/s"},
	pps:          {0, "packets/s"},
	cpu:          {2, "CPU-s/GB"},
	clientCPU:    {2, "CPU-s/GB client"},
	serverCPU:    {2, "CPU-s/GB server"},
	clientCores:  {2, "cores client"},
	serverCores:  {2, "cores server"},
	pingMedian:   {3, "ms median"},
	pingP99:      {2, "ms p99"},
	clientIdle:   {3, "% of a core client"},
	serverIdle:   {3, "% server"},
	clientRSS:    {1, "MB idle client"},
	serverRSS:    {1, "MB server"},
	clientPeak:   {1, "MB peak client"},
	serverPeak:   {1, "MB server"},
	upMbps:       {0, "Mbit/s up"},
	downMbps:     {0, "Mbit/s down"},
	upCores:      {2, "cores server up"},
	downCores:    {2, "cores server down"},
	upCPU:        {2, "CPU-s/GB server up"},
	downCPU:      {2, "CPU-s/GB server down"},
	handshakes:   {0, "handshakes/s"},
	handshakeCPU: {2, "CPU-ms/handshake server"},
	perClient:    {1, "kB per client"},
	serverGrowth: {1, "MB growth server"},
}

var (
	throughput = []string{mbps, cpu, clientCores, serverCores}
	packets    = []string{mbps, pps, cpu, clientCores, serverCores}
)

// fullSize stands for the largest UDP payload that is not fragmented.
const fullSize = 0

// allRows is every row, in the order in which they are measured.
func allRows() []row {
	rows := []row{
		// First, as long as the ends are idle.
		{"cpu-idle", true, anyTunnel, 1, []string{clientIdle, serverIdle}, idleCPU},
		{"ping-idle", true, bareCable | anyTunnel, 1, []string{pingMedian, pingP99}, idlePing},
	}
	for _, flows := range []int{1, 4, 16} {
		for _, way := range []struct {
			name string
			ways []lab.Way
		}{{"up", []lab.Way{lab.Up}}, {"down", []lab.Way{lab.Down}}, {"both", []lab.Way{lab.Up, lab.Down}}} {
			who := anyTunnel
			if flows == 1 {
				who |= bareCable
			}
			byDefault := len(way.ways) == 1 || flows == 1
			rows = append(rows, row{fmt.Sprintf("tcp-%d-%s", flows, way.name), byDefault, who, 1, throughput, tcp(flows, way.ways...)})
		}
	}
	rows = append(rows,
		row{"tcp-1-up-100m", true, anyTunnel, 1, throughput, shaped(100e6, tcp(1, lab.Up))},
		row{"ping-load", true, anyTunnel, 1, []string{pingMedian, pingP99, mbps}, loadedPing},
	)
	for _, size := range []int{64, 160, 200, 1100, fullSize} {
		name := fmt.Sprint(size)
		if size == fullSize {
			name = "full"
		}
		who := anyTunnel
		if size == 1100 {
			who |= bareCable
		}
		rows = append(rows,
			row{"udp-" + name + "-flood", size == 64 || size == 1100, who, 1, packets, udpFlood(size)},
			row{"udp-" + name + "-lossless", size == 1100, anyTunnel, 1, packets[:2], lossless(size)})
	}
	rows = append(rows,
		row{"udp-1100-200m", true, anyTunnel, 1, throughput, udpAt(1100, 200e6, burstInterval)},
		row{"udp-1100-200m-even", false, anyTunnel, 1, throughput, udpAt(1100, 200e6, 0)},
		// After all that uses the same ends.
		row{"memory", true, anyTunnel, 1, []string{clientRSS, serverRSS, clientPeak, serverPeak}, memory},
		row{"tcp-1-up-2paths", true, vpnPrograms, 2, throughput, tcp(1, lab.Up)},
		row{"tcp-1-down-2paths", false, vpnPrograms, 2, throughput, tcp(1, lab.Down)},
		row{"tcp-4-up-2paths", false, vpnPrograms, 2, throughput, tcp(4, lab.Up)},
	)
	for _, n := range []int{1, 10, 100, 1000} {
		rows = append(rows, row{fmt.Sprintf("clients-%d", n), n == 1 || n == 100, vpnPrograms, 0,
			[]string{upMbps, upCPU, upCores, downMbps, downCPU, downCores, handshakes, handshakeCPU}, manyClients(n)})
	}
	for _, n := range []int{100, 1000} {
		rows = append(rows, row{fmt.Sprintf("clients-%d-memory", n), false, vpnPrograms, 0, []string{perClient}, idleClients(n)})
	}
	for _, r := range []struct {
		id                string
		rounds, n, atOnce int
	}{{"handshakes-10000", 100, 100, 1}, {"handshakes-1000-at-once", 1, 1000, 1000}} {
		rows = append(rows, row{r.id, false, vpnPrograms, 0,
			[]string{handshakes, handshakeCPU, serverGrowth, serverPeak}, manyHandshakes(r.rounds, r.n, r.atOnce)})
	}
	return rows
}

// selectRows returns the rows whose id matches one of the patterns, or those that are
// measured by default if there is none.
func selectRows(patterns []string) (selected []row, err error) {
	matches := make([]int, len(patterns))
	for _, r := range allRows() {
		take := len(patterns) == 0 && r.byDefault
		for i, p := range patterns {
			ok, err := path.Match(p, r.id)
			if err != nil {
				return nil, fmt.Errorf("--rows %q: %w", p, err)
			}
			if ok {
				matches[i]++
				take = true
			}
		}
		if take {
			selected = append(selected, r)
		}
	}
	for i, n := range matches {
		if n == 0 {
			return nil, fmt.Errorf("--rows %q: no row has such a name; there are: %s", patterns[i], strings.Join(RowIDs(), " "))
		}
	}
	return selected, nil
}

// CheckRows returns an error for a pattern that no row matches.
func CheckRows(patterns []string) error {
	_, err := selectRows(patterns)
	return err
}

// RowIDs lists the rows that exist. Those that are not measured by default are in
// parentheses.
func RowIDs() (ids []string) {
	for _, r := range allRows() {
		if !r.byDefault {
			r.id = "(" + r.id + ")"
		}
		ids = append(ids, r.id)
	}
	return ids
}

// describe shows the results of one measurement in one line.
func (r row) describe(v values) string {
	var cells []string
	for _, m := range r.metrics {
		if x, ok := v[m]; ok {
			cells = append(cells, lab.Number(x, metrics[m].decimals)+" "+metrics[m].unit)
		}
	}
	return strings.Join(cells, ", ")
}
