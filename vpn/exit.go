// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/mqvpn/mqvpn/tun"
)

// ExitCode is what a program of this module exits with. The numbers are part of
// the interface and are never used for something else.
type ExitCode int

const (
	ExitOK          ExitCode = 0
	ExitFailure     ExitCode = 1
	ExitUsage       ExitCode = 2
	ExitPermission  ExitCode = 3
	ExitNoTUN       ExitCode = 4
	ExitInterface   ExitCode = 5
	ExitAddressUsed ExitCode = 6
	ExitWrongKey    ExitCode = 7
	ExitCertificate ExitCode = 8
	ExitUnreachable ExitCode = 9
	ExitRefused     ExitCode = 10
	ExitNotRunning  ExitCode = 11
)

// exitMeanings is printed by --help.
var exitMeanings = []struct {
	code ExitCode
	text string
}{
	{ExitOK, "stopped as asked"},
	{ExitFailure, "any other failure; the message says which"},
	{ExitUsage, "flag or configuration not understood"},
	{ExitPermission, "no permission: needs root or CAP_NET_ADMIN"},
	{ExitNoTUN, "no TUN device: kernel module or /dev/net/tun missing"},
	{ExitInterface, "unknown network interface, or none usable"},
	{ExitAddressUsed, "UDP port, tunnel interface or control socket in use"},
	{ExitWrongKey, "the server does not know the key"},
	{ExitCertificate, "certificate not accepted: untrusted, wrong name, expired, wrong pin; or not readable"},
	{ExitUnreachable, "server not reachable, or connection lost (with --no-reconnect)"},
	{ExitRefused, "server refused, for instance because it is full (with --no-reconnect)"},
	{ExitNotRunning, "status: nothing is running at the control socket"},
}

// Error is an error that decides with which code the program exits.
type Error struct {
	Code ExitCode
	err  error
}

func (e *Error) Error() string { return e.err.Error() }
func (e *Error) Unwrap() error { return e.err }

func failf(code ExitCode, format string, args ...any) *Error {
	return &Error{Code: code, err: fmt.Errorf(format, args...)}
}

// exitCode is the code for err: that of the Error in its chain, or what the
// operating system's answer stands for.
func exitCode(err error) ExitCode {
	if err == nil {
		return ExitOK
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	switch {
	case errors.Is(err, tun.ErrNotAvailable), errors.Is(err, tun.ErrUnsupported):
		return ExitNoTUN
	case errors.Is(err, tun.ErrPermission), errors.Is(err, fs.ErrPermission):
		return ExitPermission
	case errors.Is(err, tun.ErrBusy), errors.Is(err, syscall.EADDRINUSE):
		return ExitAddressUsed
	}
	return ExitFailure
}
