// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"log/slog"
	"os"

	"github.com/mqvpn/mqvpn/quic/qlog"
)

// openQlog is where the variable QLOGDIR wants the logs of QUIC connections, nil without
// it: the same variable as in other implementations.
func openQlog(log *slog.Logger) *qlog.Dir {
	dir := qlog.FromEnvironment()
	if dir == nil {
		return nil
	}
	if _, err := os.Stat(dir.Path()); err != nil {
		log.Error("no qlog is written", "error", err)
		return nil
	}
	log.Warn("a qlog of each connection is written, which tells addresses and traffic patterns", "directory", dir.Path())
	return dir
}

// closeQlog waits until the logs are written, after the end of the connections.
func closeQlog(log *slog.Logger, dir *qlog.Dir) {
	if err := dir.Close(); err != nil {
		log.Error("the qlog is not complete", "error", err)
	}
}
