// SPDX-License-Identifier: Apache-2.0

// Package interop tests mqvpn against other implementations. It is a module of its
// own, so that peers used only for testing never enter the product's dependencies.
package interop
