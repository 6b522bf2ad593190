package iptables

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The kernel's accounting objects (linux/netfilter/nfnetlink_acct.h).
const (
	nfnlSubsysAcct = 7
	nfnlMsgAcctNew = 0
	nfacctName     = 1
	nfacctPackets  = 2
	nfacctBytes    = 3
)

// counters are what rules count with `-m nfacct`; they must exist before the
// rules which name them. `nfacct list` shows them.
var counters = []string{"ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts"}

// makeCounters makes them, each once. It fails on a kernel without nfacct.
func makeCounters() error {
	for _, name := range counters {
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
