// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package udpio

// IsUnreachable is not known here.
func IsUnreachable(error) bool { return false }
