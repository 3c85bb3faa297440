// SPDX-License-Identifier: Apache-2.0

//go:build race

package quic

func init() { raceDetector = true }
