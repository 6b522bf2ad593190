package iptables

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The kernel's accounting objects (linux/netfilter/nfnetlink_acct.h).
const (
	nfnlSubsysAcct = 7
	nfnlMsgAcctNew = 0
	nfnlMsgAcctGet = 1
	nfacctName     = 1
	nfacctPackets  = 2
	nfacctBytes    = 3
)

// What rules count with `-m nfacct`; `nfacct list` shows them.
const (
	invalidCounter   = "ct_state_invalid_dropped_pkts"
	localhostCounter = "localhost_nps_accepted_pkts"
)

// makeCounters makes them, each once: they must exist before the rules which
// name them. It fails on a kernel without nfacct.
func makeCounters() error {
	for _, name := range []string{invalidCounter, localhostCounter} {
		request := nl.NewNetlinkRequest(nfnlSubsysAcct<<8|nfnlMsgAcctNew, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
		request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
		request.AddData(nl.NewRtAttr(nfacctName, nl.ZeroTerminated(name)))
		request.AddData(nl.NewRtAttr(nfacctPackets, make([]byte, 8)))
		request.AddData(nl.NewRtAttr(nfacctBytes, make([]byte, 8)))
		if _, err := request.Execute(unix.NETLINK_NETFILTER, 0); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("make counter %s: %w", name, err)
		}
	}
	return nil
}

// readCounters reads the packets of all counters.
func readCounters() (map[string]uint64, error) {
	request := nl.NewNetlinkRequest(nfnlSubsysAcct<<8|nfnlMsgAcctGet, unix.NLM_F_DUMP)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	messages, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return nil, fmt.Errorf("list counters: %w", err)
	}
	packets := map[string]uint64{}
	for _, m := range messages {
		attributes, err := nl.ParseRouteAttr(m[nl.SizeofNfgenmsg:])
		if err != nil {
			return nil, fmt.Errorf("read counter: %w", err)
		}
		var name string
		var n uint64
		for _, a := range attributes {
			switch a.Attr.Type & nl.NLA_TYPE_MASK {
			case nfacctName:
				name = nl.BytesToString(a.Value)
			case nfacctPackets:
				n = binary.BigEndian.Uint64(a.Value)
			}
		}
		packets[name] = n
	}
	return packets, nil
}
