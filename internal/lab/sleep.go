// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"time"
)

// Sleep waits for d, or until ctx ends, and then returns why.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
