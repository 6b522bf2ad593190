package kubelet

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"

	"github.com/podarium/podarium/internal/kube"
)

const (
	defaultMaxPods = 110
	// statusInterval is how often the node's status is written though it did not change. That the node
	// is alive is told by its Lease, every few seconds and cheaply.
	statusInterval = 5 * time.Minute
)

// node is this machine as the API knows it.
type node struct {
	k       *Kubelet
	runtime string // runc://1.1.5
	info    corev1.NodeSystemInfo

	mu         sync.Mutex
	registered *corev1.Node // as the API server has it
}

func (k *Kubelet) newNode(ctx context.Context) (*node, error) {
	version, err := k.runtime.Version(ctx)
	if err != nil {
		return nil, err
	}
	return &node{k: k, runtime: version, info: systemInfo(version)}, nil
}

// run registers the node, then keeps its status: at every change, and every few minutes.
func (n *node) run(ctx context.Context) {
	changes, images := watchDir(ctx, n.k.cfg.CNIConfDir), watchDir(ctx, n.k.cfg.ImageRoot)
	n.k.network.load()
	n.k.nodeNews("Starting", "Starting kubelet.")
	var retry quickRetry
	for !n.register(ctx) {
		if !sleep(ctx, retry.next()) {
			return
		}
	}
	touched := n.watch(ctx)
	ticker := time.NewTicker(statusInterval)
	defer ticker.Stop()
	for {
		select {
		case <-touched: // somebody else wrote the Node: report says whether that was right
		case <-ctx.Done():
			return
		case <-changes:
			if !n.k.network.load() {
				continue
			}
			n.k.wakeAll()
		case <-images: // the status lists them
		case <-n.k.pressure.changed: // and the conditions
		case <-ticker.C:
		}
		for !n.report(ctx) {
			if !sleep(ctx, retry.next()) {
				return
			}
		}
		retry.reset()
	}
}

// watch follows our own Node object. When heartbeats did not come through for a while, the node
// lifecycle controller declares the node's condition unknown, and only we can tell it better.
func (n *node) watch(ctx context.Context) <-chan struct{} {
	touched := make(chan struct{}, 1)
	seen := func(object any) {
		if node, ok := object.(*corev1.Node); ok && n.remember(node) {
			select {
			case touched <- struct{}{}:
			default:
			}
		}
	}
	_, informer := n.k.informer("nodes", fields.OneTermEqualSelector(metav1.ObjectNameField, n.k.cfg.NodeName), &corev1.Node{},
		cache.ResourceEventHandlerFuncs{AddFunc: seen, UpdateFunc: func(_, object any) { seen(object) }})
	go informer.RunWithContext(ctx)
	return touched
}

// wakeAll lets the workers look again: pods which had to wait for a network can have one now.
func (k *Kubelet) wakeAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.workers {
		w.wakeUp()
	}
}

// register makes the Node object, or takes over the one which is there.
func (n *node) register(ctx context.Context) bool {
	wanted := n.object()
	made, err := n.k.client.CoreV1().Nodes().Create(ctx, wanted, metav1.CreateOptions{})
	if err == nil {
		n.remember(made)
		slog.Info("Node is registered", "node", made.Name)
		return n.report(ctx)
	}
	if !apierrors.IsAlreadyExists(err) {
		slog.Warn("Registering node", "error", err)
		return false
	}
	have, err := n.k.client.CoreV1().Nodes().Get(ctx, wanted.Name, metav1.GetOptions{})
	if err != nil {
		slog.Warn("Reading node", "error", err)
		return false
	}
	if changed := withLabels(have, wanted.Labels); changed {
		if have, err = n.k.client.CoreV1().Nodes().Update(ctx, have, metav1.UpdateOptions{}); err != nil {
			slog.Warn("Labelling node", "error", err)
			return false
		}
	}
	n.remember(have)
	slog.Info("Node was registered already", "node", have.Name)
	return n.report(ctx)
}

func withLabels(node *corev1.Node, labels map[string]string) (changed bool) {
	if node.Labels == nil {
		node.Labels = map[string]string{}
	}
	for key, value := range labels {
		if node.Labels[key] != value {
			node.Labels[key], changed = value, true
		}
	}
	return changed
}

// remember keeps the newest version of the Node and tells whether this is one.
func (n *node) remember(node *corev1.Node) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.registered != nil && n.registered.UID == node.UID && !newerVersion(node, n.registered) {
		return false
	}
	n.registered = node
	return true
}

// known is the Node as the API server has it, or as it is going to register.
func (n *node) known() *corev1.Node {
	n.mu.Lock()
	registered := n.registered
	n.mu.Unlock()
	if registered == nil {
		return n.object()
	}
	return registered
}

// object is the Node as it registers.
func (n *node) object() *corev1.Node {
	labels := map[string]string{
		corev1.LabelHostname: n.k.cfg.NodeName, corev1.LabelOSStable: "linux", corev1.LabelArchStable: goruntime.GOARCH,
		"beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": goruntime.GOARCH,
	}
	maps.Copy(labels, n.k.cfg.NodeLabels)
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.k.cfg.NodeName, Labels: labels},
		Spec:       corev1.NodeSpec{Taints: n.k.cfg.Taints},
		Status:     n.status(corev1.NodeStatus{}),
	}
}

// report writes the status when it is another one than the API server has.
func (n *node) report(ctx context.Context) bool {
	n.mu.Lock()
	node := n.registered.DeepCopy()
	n.mu.Unlock()
	old := node.Status
	node.Status = n.status(old)
	if equality.Semantic.DeepEqual(old, node.Status) {
		return true
	}
	written, err := n.k.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{})
	switch {
	case err == nil:
		n.remember(written)
		n.tellReady(old, written.Status)
		return true
	case apierrors.IsConflict(err):
		live, err := n.k.client.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
		if err == nil {
			n.remember(live)
		}
		return false
	case apierrors.IsNotFound(err):
		return n.register(ctx) // somebody deleted the Node of a living machine
	default:
		slog.Warn("Writing node status", "error", err)
		return false
	}
}

// tellReady tells by an event when the node has become ready, or is it no longer.
func (n *node) tellReady(old, status corev1.NodeStatus) {
	ready := func(status corev1.NodeStatus) (corev1.ConditionStatus, bool) {
		for _, condition := range status.Conditions {
			if condition.Type == corev1.NodeReady {
				return condition.Status, true
			}
		}
		return "", false
	}
	before, known := ready(old)
	now, _ := ready(status)
	if !known || before == now {
		return
	}
	news := "NodeReady"
	if now != corev1.ConditionTrue {
		news = "NodeNotReady"
	}
	n.k.nodeNews(news, fmt.Sprintf("Node %s status is now: %s", n.k.cfg.NodeName, news))
}

// nodeNews tells what happened to the node.
func (k *Kubelet) nodeNews(reason, message string) {
	k.recorder.Event(k.nodeReference(), corev1.EventTypeNormal, reason, message)
}

func (n *node) status(old corev1.NodeStatus) corev1.NodeStatus {
	status := *old.DeepCopy()
	status.Addresses = nil
	for _, ip := range n.k.cfg.NodeIPs {
		status.Addresses = append(status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
	}
	status.Addresses = append(status.Addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: n.k.cfg.NodeName})
	status.Capacity, status.Allocatable = n.allocatable(), n.allocatable()
	status.NodeInfo = n.info
	yes, no := true, false
	status.Features = &corev1.NodeFeatures{SupplementalGroupsPolicy: &yes}
	status.RuntimeHandlers = []corev1.NodeRuntimeHandler{{
		Features: &corev1.NodeRuntimeHandlerFeatures{RecursiveReadOnlyMounts: &yes, UserNamespaces: &no},
	}}
	if images, err := n.k.images.List(); err != nil {
		slog.Warn("Listing images", "error", err)
	} else {
		status.Images = nodeImages(images)
	}
	status.DaemonEndpoints.KubeletEndpoint.Port = int32(n.k.cfg.Port)
	now := metav1.Now().Rfc3339Copy()
	set := func(kind corev1.NodeConditionType, value corev1.ConditionStatus, reason, message string) {
		setNodeCondition(&status, corev1.NodeCondition{
			Type: kind, Status: value, Reason: reason, Message: message, LastHeartbeatTime: now, LastTransitionTime: now,
		})
	}
	for _, words := range pressureWords() {
		if n.k.pressure.has(words.kind) {
			set(words.kind, corev1.ConditionTrue, words.reason, words.message)
		} else {
			set(words.kind, corev1.ConditionFalse, words.noReason, words.noMessage)
		}
	}
	if err := n.k.network.ready(); err != nil {
		set(corev1.NodeReady, corev1.ConditionFalse, "KubeletNotReady",
			"container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:"+networkMessage(err))
	} else {
		set(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status")
	}
	return status
}

func networkMessage(err error) string {
	if errors.Is(err, errNoNetwork) {
		return "Network plugin returns error: cni plugin not initialized"
	}
	return err.Error()
}

func setNodeCondition(status *corev1.NodeStatus, wanted corev1.NodeCondition) {
	for i, have := range status.Conditions {
		if have.Type != wanted.Type {
			continue
		}
		if have.Status == wanted.Status {
			wanted.LastTransitionTime = have.LastTransitionTime
			if have.Reason == wanted.Reason && have.Message == wanted.Message && time.Since(have.LastHeartbeatTime.Time) < statusInterval/2 {
				wanted.LastHeartbeatTime = have.LastHeartbeatTime // nothing new
			}
		}
		status.Conditions[i] = wanted
		return
	}
	status.Conditions = append(status.Conditions, wanted)
}

// allocatable is what pods may have: all of the machine. A lab's nodes share one machine, and each says
// that it has all of it.
func (n *node) allocatable() corev1.ResourceList {
	var disk unix.Statfs_t
	size := int64(0)
	if unix.Statfs(n.k.cfg.RootDir, &disk) == nil {
		size = int64(disk.Blocks) * disk.Bsize
	}
	pods := cmp.Or(n.k.cfg.MaxPods, defaultMaxPods)
	return corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(goruntime.NumCPU()), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(machineMemory(), resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(int64(pods), resource.DecimalSI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(size, resource.BinarySI),
	}
}

// machineMemory reads "MemTotal:  24687144 kB" of /proc/meminfo; in bytes.
func machineMemory() int64 {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer file.Close()
	for scan := bufio.NewScanner(file); scan.Scan(); {
		fields := strings.Fields(scan.Text())
		if len(fields) >= 2 && fields[0] == "MemTotal:" {
			if kilobytes, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
				return kilobytes * 1024
			}
		}
	}
	return 0
}

func systemInfo(runtimeVersion string) corev1.NodeSystemInfo {
	read := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(data))
	}
	boot := read("/proc/sys/kernel/random/boot_id")
	machine := read("/etc/machine-id")
	uuid := read("/sys/class/dmi/id/product_uuid")
	if uuid == "" {
		uuid = machine
	}
	return corev1.NodeSystemInfo{
		MachineID: machine, SystemUUID: uuid, BootID: boot, KernelVersion: read("/proc/sys/kernel/osrelease"),
		OSImage: osImage(), ContainerRuntimeVersion: runtimeVersion, KubeletVersion: kube.Version,
		OperatingSystem: "linux", Architecture: goruntime.GOARCH,
	}
}

func osImage() string {
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "Linux"
	}
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(name, `"`)
		}
	}
	return "Linux"
}
