// Package examples holds the manifests of the demo and the workshop, so that
// the binary can apply them wherever it is.
package examples

import "embed"

// Manifests are the YAML files of this folder.
//
//go:embed *.yaml
var Manifests embed.FS
