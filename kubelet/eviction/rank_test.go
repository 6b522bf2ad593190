package eviction

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// candidate is a pod with one container c, an emptyDir v and another one m in memory; what is not said is zero.
func candidate(name string, priority int32, request corev1.ResourceList) Candidate {
	return Candidate{
		Measured: true,
		Pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: corev1.PodSpec{
				Priority:   &priority,
				Containers: []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: request}}},
				Volumes: []corev1.Volume{
					{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
					{Name: "m", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}},
				},
			},
		},
	}
}

func memory(amount string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(amount)}
}

// TestRank: who goes first, by each signal.
func TestRank(t *testing.T) {
	uses := func(c Candidate, memory, processes int64, written, inVolume, inMemory Disk) Candidate {
		c.Memory, c.Processes = memory, processes
		c.Containers = []Container{{Name: "c", Memory: memory, Writable: written}}
		c.Volumes = map[string]Disk{"v": inVolume, "m": inMemory}
		return c
	}
	storage := func(amount string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse(amount)}
	}
	none := Disk{}
	pods := []Candidate{
		uses(candidate("modest", 0, memory("100")), 50, 9, none, none, none),
		uses(candidate("little-over", 0, memory("100")), 110, 1, none, none, none),
		uses(candidate("much-over", 0, memory("100")), 190, 2, none, none, none),
		uses(candidate("important", 1000, nil), 900, 50, none, none, none),
		uses(candidate("fits-more", 0, memory("1k")), 940, 3, none, none, none),
		{Pod: candidate("unknown", 0, nil).Pod},
		uses(candidate("writer", 0, storage("10")), 0, 0, Disk{5, 1}, Disk{30, 2}, none),
		uses(candidate("in-memory", 0, nil), 0, 0, none, none, Disk{500, 90}),
		uses(candidate("many-files", 0, nil), 0, 0, none, Disk{20, 70}, none),
	}
	for _, test := range []struct {
		signal Signal
		apart  bool
		want   string // the first ones
	}{
		{MemoryAvailable, false, "unknown much-over little-over important"},
		{AllocatableMemoryAvailable, false, "unknown much-over little-over important"},
		{PIDAvailable, false, "unknown modest fits-more much-over little-over"},
		{NodeFSAvailable, false, "unknown writer many-files"},
		{NodeFSInodesFree, true, "unknown many-files writer"},
		{ImageFSAvailable, false, "unknown writer many-files"},
		{ImageFSAvailable, true, "unknown modest"}, // nobody writes there
	} {
		var names []string
		for _, c := range Rank(pods, test.signal, test.apart) {
			names = append(names, c.Pod.Name)
		}
		if got := strings.Join(names, " "); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s, images apart %v: %s, want %s …", test.signal, test.apart, got, test.want)
		}
	}
}

// TestMessage: the words of the status.
func TestMessage(t *testing.T) {
	seen := Observation{Available: resource.MustParse("60Mi"), Capacity: resource.MustParse("1Gi")}
	hundred := Amount{Quantity: resource.MustParse("100Mi")}
	over := candidate("p", 0, memory("1Mi"))
	over.Containers = []Container{{Name: "c", Memory: 3 << 20, Writable: Disk{1 << 20, 1}, Logs: Disk{4096, 1}}, {Name: "debugger", Memory: 9 << 20}}
	under := candidate("p", 0, memory("4Mi"))
	under.Containers = over.Containers
	together := candidate("p", 0, nil)
	together.Memory = 5 << 20
	together.Pod.Spec.Resources = &corev1.ResourceRequirements{Requests: memory("2Mi")}
	for _, test := range []struct {
		signal Signal
		c      Candidate
		want   string
		blamed string
	}{
		{MemoryAvailable, over, "The node was low on resource: memory. Threshold quantity: 100Mi, available: 60Mi. Container c was using 3Mi, request is 1Mi, has larger consumption of memory. ", "c"},
		{MemoryAvailable, under, "The node was low on resource: memory. Threshold quantity: 100Mi, available: 60Mi. ", ""},
		{MemoryAvailable, together, "The node was low on resource: memory. Threshold quantity: 100Mi, available: 60Mi. Pod p was using 5Mi, request is 2Mi, has larger consumption of memory. ", ""},
		{NodeFSAvailable, over, "The node was low on resource: ephemeral-storage. Threshold quantity: 100Mi, available: 60Mi. Container c was using 1028Ki, request is 0, has larger consumption of ephemeral-storage. ", "c"},
		{NodeFSInodesFree, over, "The node was low on resource: inodes. Threshold quantity: 100Mi, available: 60Mi. ", ""},
		{PIDAvailable, over, "The node was low on resource: pids. Threshold quantity: 100Mi, available: 60Mi. ", ""},
	} {
		got, annotations := Message(Threshold{Signal: test.signal, Value: hundred}, seen, test.c)
		if got != test.want || annotations["offending_containers"] != test.blamed {
			t.Errorf("%s: %q, %v\nwant %q, %s", test.signal, got, annotations, test.want, test.blamed)
		}
	}
}

// TestOverLimit: what a pod may not take, whatever the node has.
func TestOverLimit(t *testing.T) {
	mega := resource.MustParse("1Mi")
	limited := func(volume bool, limits ...string) Candidate {
		c := candidate("p", 0, nil)
		c.Pod.Spec.Containers = nil
		for i, limit := range limits {
			container := corev1.Container{Name: string(rune('a' + i))}
			if limit != "" {
				container.Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse(limit)}
			}
			c.Pod.Spec.Containers = append(c.Pod.Spec.Containers, container)
			c.Containers = append(c.Containers, Container{Name: container.Name})
		}
		if volume {
			for i := range c.Pod.Spec.Volumes {
				c.Pod.Spec.Volumes[i].EmptyDir.SizeLimit = &mega
			}
		}
		return c
	}
	with := func(c Candidate, volume, inMemory int64, written ...int64) Candidate {
		c.Volumes = map[string]Disk{"v": {Bytes: volume}, "m": {Bytes: inMemory}}
		for i, bytes := range written {
			c.Containers[i].Writable.Bytes = bytes / 2
			c.Containers[i].Logs.Bytes = bytes - bytes/2
		}
		return c
	}
	for name, test := range map[string]struct {
		c             Candidate
		limit, needed string
	}{
		"no limit":             {with(limited(false, ""), 9<<20, 0, 9<<20), "", "no"},
		"volume full":          {with(limited(true, ""), 1<<20, 0), "", "yes"},
		"volume over":          {with(limited(true, ""), 1<<20+1, 0), `emptydirfs.limit Usage of EmptyDir volume "v" exceeds the limit "1Mi". `, "yes"},
		"volume in memory":     {with(limited(true, ""), 0, 1<<20+1), `emptydirfs.limit Usage of EmptyDir volume "m" exceeds the limit "1Mi". `, "yes"},
		"pod over":             {with(limited(false, "1Mi"), 1<<20, 0, 1), "ephemeralpodfs.limit Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ", "yes"},
		"memory is no storage": {with(limited(false, "1Mi"), 0, 9<<20), "", "yes"},
		"one container over":   {with(limited(false, "1Mi", "4Mi"), 0, 0, 2<<20, 0), `ephemeralcontainerfs.limit Container a exceeded its local ephemeral storage limit "1Mi". `, "yes"},
	} {
		limit, message, over := test.c.OverLimit()
		got := ""
		if over {
			got = string(limit) + " " + message
		}
		if got != test.limit || HasLimits(test.c.Pod) != (test.needed == "yes") {
			t.Errorf("%s: %q, want %q; has limits: %v", name, got, test.limit, HasLimits(test.c.Pod))
		}
	}
}
