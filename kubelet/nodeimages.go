package kubelet

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/kubelet/image"
)

// A Node lists the largest of its images, with a few names of each.
const (
	maxNodeImages = 50
	maxImageNames = 5
)

// nodeImages are a Node's status.images: the largest first, each with its digests before its tags.
func nodeImages(images []image.Image) []corev1.ContainerImage {
	slices.SortStableFunc(images, func(a, b image.Image) int {
		return cmp.Or(cmp.Compare(b.Size, a.Size), strings.Compare(b.Digest, a.Digest))
	})
	var list []corev1.ContainerImage
	for i, img := range images {
		if i == 0 || img.Digest != images[i-1].Digest {
			list = append(list, corev1.ContainerImage{SizeBytes: img.Size})
		}
		last := &list[len(list)-1]
		last.Names = append(last.Names, img.Ref)
	}
	for i := range list {
		slices.SortStableFunc(list[i].Names, func(a, b string) int { return strings.Count(b, "@") - strings.Count(a, "@") })
		list[i].Names = list[i].Names[:min(len(list[i].Names), maxImageNames)]
	}
	return list[:min(len(list), maxNodeImages)]
}
