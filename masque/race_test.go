// SPDX-License-Identifier: Apache-2.0

//go:build race

package masque

func init() { raceDetector = true }
