package kubelet

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/kubelet/image"
)

// pull fetches an image with the credentials of the pod's imagePullSecrets, one after the other, then
// without any.
func (k *Kubelet) pull(ctx context.Context, pod *corev1.Pod, ref string, from sources) (image.Image, error) {
	opts := image.PullOptions{}
	if k.cfg.ImagePullProxy != "" {
		opts.Dial = image.ThroughProxy(k.cfg.ImagePullProxy)
	}
	var missing []string
	for _, secret := range pod.Spec.ImagePullSecrets {
		object, err := from.secret(ctx, secret.Name)
		if err != nil {
			missing = append(missing, secret.Name)
			continue // it may go without
		}
		var ok bool
		if opts.Username, opts.Password, ok = credentials(object, ref); !ok {
			continue
		}
		if img, err := k.images.Pull(ctx, ref, opts); err == nil {
			return img, nil
		}
	}
	if len(missing) > 0 {
		k.event(pod, "", corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret",
			fmt.Sprintf("Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", strings.Join(missing, ", ")))
	}
	opts.Username, opts.Password = "", ""
	return k.images.Pull(ctx, ref, opts)
}

// credentials finds the login for a reference's registry in a Secret of type
// kubernetes.io/dockerconfigjson: {"auths": {"registry.example": {"auth": "base64 of user:password"}}}.
func credentials(secret *corev1.Secret, ref string) (username, password string, ok bool) {
	var config struct {
		Auths map[string]struct{ Username, Password, Auth string }
	}
	if json.Unmarshal(secret.Data[corev1.DockerConfigJsonKey], &config) != nil {
		return "", "", false
	}
	repository, err := image.Repository(ref)
	if err != nil {
		return "", "", false
	}
	for registry, login := range config.Auths {
		registry = strings.TrimPrefix(strings.TrimPrefix(registry, "https://"), "http://")
		registry = strings.TrimSuffix(strings.TrimSuffix(registry, "/"), "/v1")
		if registry == "index.docker.io" {
			registry = "docker.io"
		}
		if repository != registry && !strings.HasPrefix(repository, registry+"/") {
			continue
		}
		if login.Username == "" {
			plain, err := base64.StdEncoding.DecodeString(login.Auth)
			if err != nil {
				continue
			}
			login.Username, login.Password, _ = strings.Cut(string(plain), ":")
		}
		return login.Username, login.Password, true
	}
	return "", "", false
}
