// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package vpn

import (
	"log/slog"
	"net/netip"

	"github.com/mqvpn/mqvpn/tun"
)

func openClientSystem(*Config, *slog.Logger) (clientSystem, error) { return nil, tun.ErrUnsupported }

func openServerSystem(*Config, *slog.Logger) (serverSystem, error) { return nil, tun.ErrUnsupported }

func freeSubnet() netip.Prefix { return defaultSubnet }
