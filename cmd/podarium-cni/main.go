// Command podarium-cni is the CNI plugin, to be installed as
// /opt/cni/bin/podarium. It is a binary of its own because a plugin is run
// once for each pod that comes and goes: this one starts in 1 ms, where the
// podarium binary, which carries the whole cluster, needs 30.
package main

import (
	"github.com/containernetworking/cni/pkg/skel"

	"github.com/podarium/podarium/cni"
)

func main() {
	skel.PluginMainFuncs(cni.Verbs, cni.Versions, "CNI plugin "+cni.PluginType)
}
