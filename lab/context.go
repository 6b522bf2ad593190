package lab

import (
	"fmt"
	"maps"
	"os"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/podarium/podarium/lab/world"
)

// addContext merges the lab's cluster, administrator and context into the
// user's kubeconfig ($KUBECONFIG or ~/.kube/config) and makes it the current
// one, as kind and minikube do.
func addContext(cfg world.Config) error {
	admin, err := clientcmd.LoadFromFile(cfg.AdminKubeconfig())
	if err != nil {
		return fmt.Errorf("read %s: %w", cfg.AdminKubeconfig(), err)
	}
	return changeKubeconfig(func(user *clientcmdapi.Config) {
		maps.Copy(user.Clusters, admin.Clusters)
		maps.Copy(user.AuthInfos, admin.AuthInfos)
		maps.Copy(user.Contexts, admin.Contexts)
		user.CurrentContext = admin.CurrentContext
	})
}

// removeContext takes out what addContext put in, and nothing else. A user
// whose file held nothing else is left without one.
func removeContext(cfg world.Config) error {
	name := cfg.Context()
	return changeKubeconfig(func(user *clientcmdapi.Config) {
		if context := user.Contexts[name]; context != nil {
			delete(user.AuthInfos, context.AuthInfo)
			delete(user.Clusters, context.Cluster)
		}
		delete(user.Contexts, name)
		if user.CurrentContext == name {
			user.CurrentContext = ""
		}
	})
}

func changeKubeconfig(change func(*clientcmdapi.Config)) error {
	paths := clientcmd.NewDefaultPathOptions()
	file := paths.GetDefaultFilename()
	user, err := clientcmd.LoadFromFile(file)
	if os.IsNotExist(err) {
		user, err = clientcmdapi.NewConfig(), nil
	}
	if err != nil {
		return fmt.Errorf("read kubeconfig %s: %w", file, err)
	}
	change(user)
	if len(user.Contexts)+len(user.Clusters)+len(user.AuthInfos) == 0 {
		if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("remove empty kubeconfig %s: %w", file, err)
		}
		return nil
	}
	if err := clientcmd.WriteToFile(*user, file); err != nil {
		return fmt.Errorf("write kubeconfig %s: %w", file, err)
	}
	return nil
}
