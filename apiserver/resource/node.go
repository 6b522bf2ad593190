package resource

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
)

// Node is a machine (or, in the lab, a set of namespaces) that runs pods. The
// key says "minions": the word of 2014, which etcd has kept.
var Node = &Kind{
	GroupVersion: corev1.SchemeGroupVersion,
	Kind:         "Node", Plural: "nodes", Singular: "node", ShortNames: []string{"no"},
	Prefix:         "/registry/minions/",
	MetaAgain:      metaAround,
	New:            func() Object { return &corev1.Node{} },
	NewList:        func() runtime.Object { return &corev1.NodeList{} },
	Default:        on(defaultNode),
	Prepare:        onBoth(prepareNode),
	Validate:       check(validateNode),
	ValidateChange: check(validateNodeChange),
	Warn:           warn(warnNode),
	NameRule:       apivalidation.NameIsDNSSubdomain,
	Fields: selectable(func(n *corev1.Node) fields.Set {
		return fields.Set{"spec.unschedulable": strconv.FormatBool(n.Spec.Unschedulable)}
	}),
	Status: true, Subresources: []Subresource{proxyThrough("NodeProxyOptions")},
	Columns: []metav1.TableColumnDefinition{
		column("Name", "string"), column("Status", "string"), column("Roles", "string"), column("Age", "string"), column("Version", "string"),
		wide("Internal-IP", "string"), wide("External-IP", "string"), wide("OS-Image", "string"), wide("Kernel-Version", "string"), wide("Container-Runtime", "string"),
	},
	Row: row(nodeRow),
}

// defaultNode keeps the old singular podCIDR and the list in step (clients of
// old know the singular only, so it decides), and lets a node offer what it has.
func defaultNode(n *corev1.Node) {
	if one := n.Spec.PodCIDR; one != "" && (len(n.Spec.PodCIDRs) == 0 || n.Spec.PodCIDRs[0] != one) {
		n.Spec.PodCIDRs = []string{one}
	}
	if len(n.Spec.PodCIDRs) > 0 {
		n.Spec.PodCIDR = n.Spec.PodCIDRs[0]
	}
	if n.Status.Allocatable == nil && n.Status.Capacity != nil {
		n.Status.Allocatable = n.Status.Capacity.DeepCopy()
	}
}

// prepareNode: a new node takes no pods before the node controller has seen it
// Ready and removes the taint.
func prepareNode(n, old *corev1.Node) {
	if old == nil || old.Spec.ConfigSource == nil { //nolint:staticcheck // clients of old still write it
		n.Spec.ConfigSource = nil //nolint:staticcheck // a feature of old, without effect
	}
	if old != nil {
		return
	}
	for _, t := range n.Spec.Taints {
		if t.Key == corev1.TaintNodeNotReady && t.Effect == corev1.TaintEffectNoSchedule {
			return
		}
	}
	n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule})
}

func nodeRow(n *corev1.Node, now time.Time) []any {
	kernel := "<unknown>"
	if n.Status.NodeInfo.KernelVersion != "" {
		kernel = n.Status.NodeInfo.KernelVersion
		if n.Status.NodeInfo.Architecture != "" {
			kernel = fmt.Sprintf("%s (%s)", kernel, n.Status.NodeInfo.Architecture)
		}
	}
	return []any{
		n.Name, nodeStatus(n), nodeRoles(n), created(n, now), n.Status.NodeInfo.KubeletVersion,
		nodeAddress(n, corev1.NodeInternalIP), nodeAddress(n, corev1.NodeExternalIP),
		orUnknown(n.Status.NodeInfo.OSImage), kernel, orUnknown(n.Status.NodeInfo.ContainerRuntimeVersion),
	}
}

func nodeStatus(n *corev1.Node) string {
	status := "Unknown"
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			status = "NotReady"
			if c.Status == corev1.ConditionTrue {
				status = "Ready"
			}
		}
	}
	if n.Spec.Unschedulable {
		status += ",SchedulingDisabled"
	}
	return status
}

// nodeRoles reads the labels node-role.kubernetes.io/ROLE and
// kubernetes.io/role=ROLE.
func nodeRoles(n *corev1.Node) string {
	var roles []string
	for k, v := range n.Labels {
		role, ok := strings.CutPrefix(k, "node-role.kubernetes.io/")
		switch {
		case ok && role != "":
			roles = append(roles, role)
		case k == "kubernetes.io/role" && v != "":
			roles = append(roles, v)
		}
	}
	sort.Strings(roles)
	return orNone(strings.Join(roles, ","))
}

func nodeAddress(n *corev1.Node, kind corev1.NodeAddressType) string {
	for _, a := range n.Status.Addresses {
		if a.Type == kind {
			return a.Address
		}
	}
	return "<none>"
}

func orUnknown(s string) string {
	if s == "" {
		return "<unknown>"
	}
	return s
}
