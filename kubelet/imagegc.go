package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podarium/podarium/kubelet/image"
	"github.com/podarium/podarium/kubelet/runtime"
)

// ImageGCPolicy says when unused images go, in percent of the file system which the images are on.
type ImageGCPolicy struct {
	HighThreshold int           // from here on images are removed; 100 is never
	LowThreshold  int           // down to here
	MinAge        time.Duration // a newer image stays: the container it was pulled for may be about to start
}

// Validate says what is wrong in upstream's words.
func (p ImageGCPolicy) Validate() error {
	var errs []error
	problem := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("invalid configuration: "+format, args...))
	}
	if p.HighThreshold < 0 || p.HighThreshold > 100 {
		problem("imageGCHighThresholdPercent (--image-gc-high-threshold) %d must be between 0 and 100, inclusive", p.HighThreshold)
	}
	if p.LowThreshold < 0 || p.LowThreshold > 100 {
		problem("imageGCLowThresholdPercent (--image-gc-low-threshold) %d must be between 0 and 100, inclusive", p.LowThreshold)
	}
	if p.LowThreshold >= p.HighThreshold {
		problem("imageGCLowThresholdPercent (--image-gc-low-threshold) %d must be less than imageGCHighThresholdPercent (--image-gc-high-threshold) %d", p.LowThreshold, p.HighThreshold)
	}
	if p.MinAge < 0 {
		problem("imageMinimumGCAge (--minimum-image-ttl-duration) %v must not be negative", p.MinAge)
	}
	return errors.Join(errs...)
}

// disk is a file system, in bytes.
type disk struct{ capacity, available int64 }

func (d disk) usedPercent() int { return 100 - int(d.available*100/d.capacity) }

// excess is how many bytes have to go: none below the high threshold, else all above the low one.
func (p ImageGCPolicy) excess(d disk) int64 {
	if p.HighThreshold == 100 || d.usedPercent() < p.HighThreshold {
		return 0
	}
	return d.capacity*int64(100-p.LowThreshold)/100 - d.available
}

// imageGCPeriod is upstream's: the kernel tells nobody when a file system fills up.
const imageGCPeriod = 5 * time.Minute

// collectImages removes images that no container uses when their file system is full.
func (k *Kubelet) collectImages(ctx context.Context) {
	ticker := time.NewTicker(imageGCPeriod)
	defer ticker.Stop()
	for failed := false; ; {
		err := k.collectOnce()
		if err != nil {
			slog.Error("Image garbage collection", "error", err)
			if failed { // once may be bad luck
				k.nodeEvent("ImageGCFailed", err.Error())
			}
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// freeImages removes images as Collect does, of which no container that we know of uses any.
func (k *Kubelet) freeImages(needed func() (int64, error)) (int64, error) {
	ids, err := k.runtime.IDs()
	if err != nil {
		return 0, err
	}
	if err := k.images.Seen(ids); err != nil {
		return 0, err
	}
	return k.images.Collect(k.cfg.ImageGC.MinAge, needed)
}

func (k *Kubelet) collectOnce() error {
	var full disk
	var excess int64
	freed, err := k.freeImages(func() (int64, error) {
		now, err := k.imageDisk()
		if err != nil {
			return 0, err
		}
		full, excess = now, k.cfg.ImageGC.excess(now)
		return excess, nil
	})
	if err != nil || freed >= excess {
		return err
	}
	message := fmt.Sprintf("Insufficient free disk space on the node's image filesystem (%d%% of %s used). "+
		"Failed to free sufficient space by deleting unused images (freed %d bytes). "+
		"Investigate disk usage, as it could be used by active images, logs, volumes, or other data.",
		full.usedPercent(), binarySize(full.capacity), freed)
	k.nodeEvent("FreeDiskSpaceFailed", message)
	return errors.New(message)
}

func (k *Kubelet) imageDisk() (disk, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(k.cfg.ImageRoot, &stat); err != nil {
		return disk{}, fmt.Errorf("measure image filesystem: %w", err)
	}
	if stat.Blocks == 0 {
		err := errors.New("invalid capacity 0 on image filesystem")
		k.nodeEvent("InvalidDiskCapacity", err.Error())
		return disk{}, err
	}
	capacity := int64(stat.Blocks) * stat.Bsize
	return disk{capacity: capacity, available: min(capacity, int64(stat.Bavail)*stat.Bsize)}, nil
}

// binarySize writes 10737418240 as "10.0 GiB".
func binarySize(bytes int64) string {
	units, size, unit := []string{"KiB", "MiB", "GiB", "TiB"}, float64(bytes), "B"
	if bytes < 1<<10 {
		return fmt.Sprintf("%d B", bytes)
	}
	for _, next := range units {
		if size < 1<<10 {
			break
		}
		size, unit = size/(1<<10), next
	}
	return fmt.Sprintf("%.1f %s", size, unit)
}

// nodeEvent warns of something which is wrong with the node.
func (k *Kubelet) nodeEvent(reason, message string) {
	k.recorder.Event(k.nodeReference(), corev1.EventTypeWarning, reason, message)
}

// nodeReference: in a kubelet's events of a node its name stands for its UID, and kubectl describe node looks
// for these, too.
func (k *Kubelet) nodeReference() *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: k.cfg.NodeName, UID: types.UID(k.cfg.NodeName)}
}

// imageUser tells people, in the mark of an image, who uses it: node-2 default/web nginx.
func (k *Kubelet) imageUser(namespace, pod, container string) string {
	return k.cfg.NodeName + " " + namespace + "/" + pod + " " + container
}

// imageDigest is the end of docker.io/library/busybox@sha256:….
func imageDigest(record runtime.Record) string {
	return record.ImageID[strings.LastIndex(record.ImageID, "@")+1:]
}

// useImage finds an image in the store and marks it for a container which is about to be made. The
// container's directory is there before the mark and goes after it: who finds the one finds the other.
func (k *Kubelet) useImage(pod *corev1.Pod, c *corev1.Container, id string) (image.Image, error) {
	if err := k.runtime.Reserve(id); err != nil {
		return image.Image{}, err
	}
	return k.images.Use(c.Image, id, k.imageUser(pod.Namespace, pod.Name, c.Name))
}

// removeContainer removes a container, and the mark which keeps its image.
func (k *Kubelet) removeContainer(ctx context.Context, id string) error {
	if err := k.runtime.Release(ctx, id); err != nil {
		return err
	}
	if err := k.images.Drop(id); err != nil {
		return err
	}
	return k.runtime.Remove(ctx, id)
}
