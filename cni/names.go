package cni

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
)

// What a learner sees in the kernel.
const (
	// PluginType is the "type" in a network configuration and the name of the
	// file in /opt/cni/bin.
	PluginType = "podarium"
	// DefaultBridge is in `ip link`, with the pods' veths as its ports.
	DefaultBridge = "cni0"
	// tunnelName is the overlay's device, in `ip -d link show vxlan0`.
	tunnelName = "vxlan0"
	// masqueradeChain is in `iptables-save -t nat`.
	masqueradeChain = "PODARIUM-MASQ"
	// forwardChain is in `iptables-save -t filter`.
	forwardChain = "PODARIUM-FORWARD"
	// routeProtocol marks our routes: `ip route show proto 80`.
	routeProtocol = 80
)

// vethName is the node's end of a pod's cable: veth and eight hex digits. It
// follows from the attachment, so DEL and CHECK find it without any record.
func vethName(containerID, ifName string) string {
	sum := sha256.Sum256([]byte(containerID + "/" + ifName))
	return "veth" + hex.EncodeToString(sum[:4])
}

// hardwareAddr is the MAC of an IPv4 address: 0a:58 (locally administered) and
// its four bytes. When 10.244.1.5 goes to a new pod, the neighbours' caches
// are right already.
func hardwareAddr(ip net.IP) net.HardwareAddr {
	return append(net.HardwareAddr{0x0a, 0x58}, ip.To4()...)
}
