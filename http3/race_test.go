// SPDX-License-Identifier: Apache-2.0

//go:build race

package http3

func init() { raceDetector = true }
