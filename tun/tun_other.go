// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package tun

import "net/netip"

// Device is a TUN interface. None can be created on this operating system.
type Device struct{}

// Create returns ErrUnsupported.
func Create(string) (*Device, error) { return nil, ErrUnsupported }

// CreatePlain returns ErrUnsupported.
func CreatePlain(string) (*Device, error) { return nil, ErrUnsupported }

func (*Device) Offloads() Offloads                     { return Offloads{} }
func (*Device) Dropped() uint64                        { return 0 }
func (*Device) Name() string                           { return "" }
func (*Device) BatchSize() int                         { return BatchSize }
func (*Device) MTU() (int, error)                      { return 0, ErrUnsupported }
func (*Device) SetMTU(int) error                       { return ErrUnsupported }
func (*Device) AddAddress(netip.Prefix) error          { return ErrUnsupported }
func (*Device) RemoveAddress(netip.Prefix) error       { return ErrUnsupported }
func (*Device) Up() error                              { return ErrUnsupported }
func (*Device) Read([][]byte, []int, int) (int, error) { return 0, ErrUnsupported }
func (*Device) Write([][]byte, int) (int, error)       { return 0, ErrUnsupported }
func (*Device) Close() error                           { return ErrUnsupported }
