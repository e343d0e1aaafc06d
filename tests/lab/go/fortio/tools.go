//go:build tools

// Package tools pins the load generator that the lab runs.
package tools

import _ "fortio.org/fortio"
