package machine

import (
	"fmt"
	"strings"

	"github.com/podarium/podarium/machine/components"
)

// unit is a component as a service of systemd.
type unit struct {
	process     components.Process
	description string
	service     []string // further lines of [Service]
}

func (u unit) name() string { return u.process.Name + ".service" }

// What the control plane's processes may do: read their keys, write their log and
// etcd, listen, dial. They run as root because the keys are root's, and without
// any of root's capabilities.
var confined = []string{
	"CapabilityBoundingSet=",
	"NoNewPrivileges=yes",
	"ProtectSystem=strict",
	"ReadWritePaths=/var/log",
	"ProtectHome=yes",
	"PrivateTmp=yes",
	"ProtectKernelTunables=yes",
	"ProtectKernelModules=yes",
	"ProtectControlGroups=yes",
	"RestrictSUIDSGID=yes",
	"LockPersonality=yes",
}

// units lists what runs on a machine, in the order of the data flow.
func units(cluster components.Cluster, node components.Node, controlPlane bool, extra []string) []unit {
	var list []unit
	if controlPlane {
		etcd := append([]string{"StateDirectory=etcd", "StateDirectoryMode=0700"}, confined...)
		list = append(
			list,
			unit{components.APIServer(cluster), "kube-apiserver: the Kubernetes API, with etcd inside", etcd},
			unit{components.ControllerManager(cluster), "kube-controller-manager: makes the cluster what its objects say", confined},
			unit{components.Scheduler(cluster), "kube-scheduler: gives pods their nodes", confined},
		)
	}
	list = append(list, unit{
		components.Kubelet(cluster, node).With(extra...), "kubelet: runs the pods of this node",
		// Containers have shims for parents, and stay when the kubelet goes.
		[]string{"KillMode=process", "TasksMax=infinity"},
	})
	if cluster.ProxyMode != "none" {
		list = append(list, unit{components.Proxy(cluster, node), "kube-proxy: Services on this node", []string{"NoNewPrivileges=yes"}})
	}
	return list
}

// text is the unit's file. The process's name is argv[0] (systemd's "@"), so that
// `ps aux | grep kubelet` finds it. It logs to the journal and, so that a
// learner finds it where guides say, to /var/log.
func (u unit) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Written by podarium; removed by podarium reset.\n[Unit]\nDescription=%s\n", u.description)
	b.WriteString("Wants=network-online.target\nAfter=network-online.target\n")
	b.WriteString("StartLimitIntervalSec=0\n\n[Service]\n") // never give up: the API server may be away for long
	fmt.Fprintf(&b, "ExecStart=@%s/%s %s", programsDir, u.process.Program(), u.process.Name)
	for _, arg := range append(u.process.Args, "--log-file="+u.log()) {
		fmt.Fprintf(&b, " \\\n    %s", escape(arg))
	}
	b.WriteString("\nEnvironment=GOGC=50\nRestart=always\nRestartSec=1\nLimitNOFILE=1048576\n")
	for _, line := range u.service {
		fmt.Fprintln(&b, line)
	}
	b.WriteString("\n[Install]\nWantedBy=multi-user.target\n")
	return b.String()
}

func (u unit) log() string { return "/var/log/" + u.process.Name + ".log" }

// escape writes an argument as systemd.service(5), "Command lines", reads it:
// percent and dollar signs are doubled, quotes and backslashes escaped.
func escape(arg string) string {
	arg = strings.NewReplacer("%", "%%", "$", "$$", `\`, `\\`, `"`, `\"`).Replace(arg)
	if strings.ContainsAny(arg, " \t;'") {
		return `"` + arg + `"`
	}
	return arg
}

// The timer and what it starts: once a day, and not at a time at which a laptop
// sleeps, see `systemctl list-timers`.
const (
	renewalService = "podarium-certs.service"
	renewalTimer   = "podarium-certs.timer"

	renewalServiceText = `# Written by podarium; removed by podarium reset.
[Unit]
Description=podarium certs renew: certificates which end within a month
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=` + programsDir + `/podarium certs renew
`
	renewalTimerText = `# Written by podarium; removed by podarium reset.
[Unit]
Description=daily podarium certs renew

[Timer]
OnActiveSec=15min
OnUnitActiveSec=1d
AccuracySec=1h

[Install]
WantedBy=timers.target
`
)
