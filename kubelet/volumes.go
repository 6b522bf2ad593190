package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
)

// volumeDir is where a volume stands below one of a pod's directories: as upstream,
// volumes/kubernetes.io~configmap/NAME.
func volumeDir(podDir, plugin, name string) string {
	return filepath.Join(podDir, volumesDir, "kubernetes.io~"+plugin, name)
}

const volumesDir = "volumes"

// volumeWriter makes the volumes of one pod.
type volumeWriter struct {
	pod    *corev1.Pod
	dirs   podDirs
	source sources
	tokens *tokens
}

// mounted is what became of a volume: the directory (or file) which containers get.
type mounted struct {
	path     string
	readOnly bool
	// refresh is when a token in it has to be renewed; zero for never.
	refresh time.Time
}

// volume makes one volume or brings it up to date.
func (w volumeWriter) volume(ctx context.Context, v *corev1.Volume) (mounted, error) {
	switch {
	case v.EmptyDir != nil:
		return w.emptyDir(v)
	case v.HostPath != nil:
		return mounted{path: v.HostPath.Path}, hostPath(v.HostPath)
	case v.ConfigMap != nil:
		files, err := w.configMapFiles(ctx, v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.DefaultMode, v.ConfigMap.Optional)
		return w.write("configmap", v.Name, files, time.Time{}, err)
	case v.Secret != nil:
		files, err := w.secretFiles(ctx, v.Secret.SecretName, v.Secret.Items, v.Secret.DefaultMode, v.Secret.Optional)
		return w.write("secret", v.Name, files, time.Time{}, err)
	case v.DownwardAPI != nil:
		files, err := w.downwardFiles(v.DownwardAPI.Items, v.DownwardAPI.DefaultMode)
		return w.write("downward-api", v.Name, files, time.Time{}, err)
	case v.Projected != nil:
		files, refresh, err := w.projectedFiles(ctx, v.Projected)
		return w.write("projected", v.Name, files, refresh, err)
	default:
		return mounted{}, fmt.Errorf("volume %q is of a type which this node cannot mount", v.Name)
	}
}

func (w volumeWriter) write(plugin, name string, files map[string]volumeFile, refresh time.Time, err error) (mounted, error) {
	if err != nil {
		return mounted{}, err
	}
	if err := w.dirs.make(); err != nil {
		return mounted{}, err
	}
	dir := volumeDir(w.dirs.run, plugin, name)
	mode := 0o777 | fs.ModeSticky
	if plugin == "configmap" {
		mode = 0o777 // the others are secrets or may have some, and have a tmpfs of their own in upstream, whose root is like /tmp
	}
	_, err = writeVolume(dir, files, volumeRights{mode, w.fsGroup()})
	return mounted{path: dir, readOnly: true, refresh: refresh}, err
}

func (w volumeWriter) fsGroup() *int64 {
	if w.pod.Spec.SecurityContext == nil {
		return nil
	}
	return w.pod.Spec.SecurityContext.FSGroup
}

func (w volumeWriter) emptyDir(v *corev1.Volume) (mounted, error) {
	dir := volumeDir(w.dirs.state, "empty-dir", v.Name)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return mounted{}, fmt.Errorf("make emptyDir: %w", err)
		}
	}
	memory := v.EmptyDir.Medium == corev1.StorageMediumMemory
	if memory && !isMountPoint(dir) {
		options := "mode=1777"
		if size := w.memorySize(v.EmptyDir.SizeLimit); size > 0 {
			options += ",size=" + strconv.FormatInt(size, 10)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
			return mounted{}, fmt.Errorf("mount emptyDir in memory: %w", err)
		}
	}
	mode := fs.FileMode(0o777)
	if memory {
		mode |= fs.ModeSticky
	}
	if gid := w.fsGroup(); gid != nil {
		mode |= fs.ModeSetgid // new files get the group, too
		if err := os.Chown(dir, -1, int(*gid)); err != nil {
			return mounted{}, fmt.Errorf("make emptyDir: %w", err)
		}
	}
	return mounted{path: dir}, os.Chmod(dir, mode)
}

// memorySize bounds a volume in memory: it takes no more than its limit, the pod's, and what the node has for pods.
func (w volumeWriter) memorySize(limit *resource.Quantity) int64 {
	most := w.source.allocatable[corev1.ResourceMemory]
	size := most.Value()
	if memory := podLimits(w.pod).MemoryLimit; memory > 0 {
		size = min(size, memory)
	}
	if limit != nil && limit.Value() > 0 {
		size = min(size, limit.Value())
	}
	return size
}

// isMountPoint compares the device of a directory with that of its parent.
func isMountPoint(dir string) bool {
	var here, parent unix.Stat_t
	if unix.Stat(dir, &here) != nil || unix.Stat(filepath.Dir(dir), &parent) != nil {
		return false
	}
	return here.Dev != parent.Dev
}

// hostPath checks the path, or makes it when its type says so.
func hostPath(v *corev1.HostPathVolumeSource) error {
	kind := corev1.HostPathUnset
	if v.Type != nil {
		kind = *v.Type
	}
	switch kind {
	case corev1.HostPathDirectoryOrCreate:
		if err := os.MkdirAll(v.Path, 0o755); err != nil {
			return err
		}
	case corev1.HostPathFileOrCreate:
		f, err := os.OpenFile(v.Path, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		f.Close()
	case corev1.HostPathUnset:
		return nil // whatever is there; container start makes a directory when there is nothing
	}
	info, err := os.Stat(v.Path)
	if err != nil {
		return fmt.Errorf("hostPath type check failed: %s is not a %s", v.Path, kindName(kind))
	}
	want := map[corev1.HostPathType]bool{
		corev1.HostPathDirectory: info.IsDir(), corev1.HostPathDirectoryOrCreate: info.IsDir(),
		corev1.HostPathFile: info.Mode().IsRegular(), corev1.HostPathFileOrCreate: info.Mode().IsRegular(),
		corev1.HostPathSocket:  info.Mode()&fs.ModeSocket != 0,
		corev1.HostPathCharDev: info.Mode()&fs.ModeCharDevice != 0,
		corev1.HostPathBlockDev: info.Mode()&fs.ModeDevice != 0 &&
			info.Mode()&fs.ModeCharDevice == 0,
	}
	if !want[kind] {
		return fmt.Errorf("hostPath type check failed: %s is not a %s", v.Path, kindName(kind))
	}
	return nil
}

func kindName(kind corev1.HostPathType) string {
	switch kind {
	case corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate:
		return "directory"
	case corev1.HostPathSocket:
		return "socket file"
	case corev1.HostPathCharDev:
		return "character device"
	case corev1.HostPathBlockDev:
		return "block device"
	default:
		return "file"
	}
}

// configMapFiles are the keys of a ConfigMap as files, all or those which items name.
func (w volumeWriter) configMapFiles(ctx context.Context, name string, items []corev1.KeyToPath, mode *int32, optional *bool) (map[string]volumeFile, error) {
	data := map[string][]byte{}
	object, err := w.source.configMap(ctx, name)
	if err != nil {
		if !isOptional(optional) || !apierrors.IsNotFound(err) {
			return nil, err
		}
	} else {
		for key, value := range object.Data {
			data[key] = []byte(value)
		}
		maps.Copy(data, object.BinaryData)
	}
	return pickKeys(data, items, mode, isOptional(optional), "configmap references non-existent config key")
}

func (w volumeWriter) secretFiles(ctx context.Context, name string, items []corev1.KeyToPath, mode *int32, optional *bool) (map[string]volumeFile, error) {
	var data map[string][]byte
	object, err := w.source.secret(ctx, name)
	if err != nil {
		if !isOptional(optional) || !apierrors.IsNotFound(err) {
			return nil, err
		}
	} else {
		data = object.Data
	}
	return pickKeys(data, items, mode, isOptional(optional), "references non-existent secret key")
}

func isOptional(flag *bool) bool { return flag != nil && *flag }

func fileMode(mode, fallback *int32) fs.FileMode {
	switch {
	case mode != nil:
		return fs.FileMode(*mode) & 0o777
	case fallback != nil:
		return fs.FileMode(*fallback) & 0o777
	default:
		return 0o644
	}
}

func pickKeys(data map[string][]byte, items []corev1.KeyToPath, mode *int32, optional bool, complaint string) (map[string]volumeFile, error) {
	files := map[string]volumeFile{}
	if len(items) == 0 {
		for key, value := range data {
			files[key] = volumeFile{data: value, mode: fileMode(nil, mode)}
		}
		return files, nil
	}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			if optional {
				continue
			}
			return nil, fmt.Errorf("%s: %s", complaint, item.Key)
		}
		files[filepath.Clean(item.Path)] = volumeFile{data: value, mode: fileMode(item.Mode, mode)}
	}
	return files, nil
}

func (w volumeWriter) downwardFiles(items []corev1.DownwardAPIVolumeFile, mode *int32) (map[string]volumeFile, error) {
	files := map[string]volumeFile{}
	for _, item := range items {
		var value string
		var err error
		switch {
		case item.FieldRef != nil:
			value, err = w.source.field(item.FieldRef.FieldPath)
		case item.ResourceFieldRef != nil:
			c := findContainer(w.pod, item.ResourceFieldRef.ContainerName)
			if c == nil {
				return nil, fmt.Errorf("container %s not found", item.ResourceFieldRef.ContainerName)
			}
			value = strconv.FormatInt(containerResource(c, item.ResourceFieldRef, w.source.allocatable), 10)
		}
		if err != nil {
			return nil, err
		}
		files[filepath.Clean(item.Path)] = volumeFile{data: []byte(value), mode: fileMode(item.Mode, mode)}
	}
	return files, nil
}

// projectedFiles are the files of several sources in one volume. The volume kube-api-access-… which
// every pod gets is one: token, ca.crt, namespace.
func (w volumeWriter) projectedFiles(ctx context.Context, v *corev1.ProjectedVolumeSource) (map[string]volumeFile, time.Time, error) {
	all := map[string]volumeFile{}
	var refresh time.Time
	var errs []error
	for _, source := range v.Sources {
		var files map[string]volumeFile
		var err error
		switch {
		case source.ConfigMap != nil:
			files, err = w.configMapFiles(ctx, source.ConfigMap.Name, source.ConfigMap.Items, v.DefaultMode, source.ConfigMap.Optional)
		case source.Secret != nil:
			files, err = w.secretFiles(ctx, source.Secret.Name, source.Secret.Items, v.DefaultMode, source.Secret.Optional)
		case source.DownwardAPI != nil:
			files, err = w.downwardFiles(source.DownwardAPI.Items, v.DefaultMode)
		case source.ServiceAccountToken != nil:
			var token serviceToken
			token, err = w.tokens.get(ctx, w.pod, source.ServiceAccountToken)
			files = map[string]volumeFile{filepath.Clean(source.ServiceAccountToken.Path): w.tokenFile(token.text, v.DefaultMode)}
			if refresh.IsZero() || token.refresh.Before(refresh) {
				refresh = token.refresh
			}
		default:
			err = errors.New("projected volume has a source which this node does not know")
		}
		if err != nil {
			errs = append(errs, err)
		}
		maps.Copy(all, files)
	}
	return all, refresh, utilerrors.NewAggregate(errs)
}

// tokenFile is a ServiceAccount token as a file. When all containers run as one user, he alone may read it, and
// of others the pod's group.
func (w volumeWriter) tokenFile(token string, mode *int32) volumeFile {
	file := volumeFile{data: []byte(token), mode: fileMode(nil, mode), uid: soleUser(w.pod)}
	if file.uid != nil || w.fsGroup() != nil {
		file.mode = 0o600
	}
	return file
}

// soleUser is who all containers run as, nil when there is more than one, or one of which the image decides.
func soleUser(pod *corev1.Pod) *int64 {
	var sole *int64
	for _, c := range allContainers(pod) {
		user := (*int64)(nil)
		if p := pod.Spec.SecurityContext; p != nil {
			user = p.RunAsUser
		}
		if s := c.SecurityContext; s != nil && s.RunAsUser != nil {
			user = s.RunAsUser
		}
		if user == nil || sole != nil && *sole != *user {
			return nil
		}
		sole = user
	}
	return sole
}
