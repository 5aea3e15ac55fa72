// kube-apiserver's own transformers: encrypts and decrypts values with an EncryptionConfiguration. And
// its own codecs: encodes and decodes what is in them.
//
// Arguments: the configuration, the socket of a KMS v1 plugin and that of a KMS v2 plugin. Both
// plugins are served here; what they wrap is the key XOR 0x5a behind a word. A request is a line of
// JSON on stdin, its answer one on stdout.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	"k8s.io/apiserver/pkg/storage/value"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/klog/v2"
	v1 "k8s.io/kms/apis/v1beta1"
	v2 "k8s.io/kms/apis/v2"
)

type request struct {
	// Else it is written.
	Read bool `json:"read"`
	// A manifest in JSON and its stored form, without encryption.
	Object   bool   `json:"object"`
	Resource string `json:"resource"`
	Key      string `json:"key"`
	Data     []byte `json:"data"`
}

type answer struct {
	Data  []byte `json:"data"`
	Stale bool   `json:"stale"`
	Error string `json:"error"`
}

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "transformer:", err)
		os.Exit(1)
	}
}

func run(path, socketV1, socketV2 string) error {
	// What cannot be decrypted is the answer's business.
	flags := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(flags)
	for name, value := range map[string]string{"logtostderr": "false", "stderrthreshold": "FATAL"} {
		if err := flags.Set(name, value); err != nil {
			return err
		}
	}
	klog.SetOutput(io.Discard)
	if err := utilfeature.DefaultMutableFeatureGate.Set("KMSv1=true"); err != nil {
		return err
	}
	for socket, register := range map[string]func(*grpc.Server){
		socketV1: func(s *grpc.Server) { v1.RegisterKeyManagementServiceServer(s, pluginV1{}) },
		socketV2: func(s *grpc.Server) { v2.RegisterKeyManagementServiceServer(s, pluginV2{}) },
	} {
		listener, err := net.Listen("unix", socket)
		if err != nil {
			return err
		}
		server := grpc.NewServer()
		register(server)
		go func() { _ = server.Serve(listener) }()
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	config, err := encryptionconfig.LoadEncryptionConfig(ctx, path, false, "transformer")
	if err != nil {
		return err
	}
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 64<<20)
	output := json.NewEncoder(os.Stdout)
	for input.Scan() {
		var r request
		if err := json.Unmarshal(input.Bytes(), &r); err != nil {
			return err
		}
		if r.Object {
			if err := output.Encode(object(r)); err != nil {
				return err
			}
			continue
		}
		transformer, ok := config.Transformers[schema.ParseGroupResource(r.Resource)]
		if !ok {
			return errors.New("the configuration does not cover " + r.Resource)
		}
		if err := output.Encode(transform(ctx, transformer, r)); err != nil {
			return err
		}
	}
	return input.Err()
}

// The plugin's first Status may not have been answered yet.
func transform(ctx context.Context, transformer value.Transformer, r request) (a answer) {
	defer func() {
		// aescbc does so on a body that is an IV and nothing else.
		if p := recover(); p != nil {
			a = answer{Error: fmt.Sprint("panic: ", p)}
		}
	}()
	place := value.DefaultContext([]byte(r.Key))
	for attempt := 0; ; attempt++ {
		var err error
		if r.Read {
			a.Data, a.Stale, err = transformer.TransformFromStorage(ctx, r.Data, place)
		} else {
			a.Data, err = transformer.TransformToStorage(ctx, r.Data, place)
		}
		if err == nil {
			return a
		}
		if attempt < 100 && bytes.Contains([]byte(err.Error()), []byte("got unexpected nil transformer")) {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		return answer{Error: err.Error()}
	}
}

// Secrets and ConfigMaps are stored as protobuf, what is not built in as JSON.
func object(r request) (a answer) {
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return answer{Error: err.Error()}
	}
	var err error
	if r.Read {
		a.Data, err = decode(scheme, r.Data)
	} else {
		a.Data, err = encode(scheme, r.Data)
	}
	if err != nil {
		return answer{Error: err.Error()}
	}
	return a
}

func encode(scheme *runtime.Scheme, data []byte) ([]byte, error) {
	decoded, _, err := serializer.NewCodecFactory(scheme).UniversalDeserializer().Decode(data, nil, nil)
	if err != nil {
		return nil, err
	}
	return runtime.Encode(protobuf.NewSerializer(scheme, scheme), decoded)
}

func decode(scheme *runtime.Scheme, data []byte) ([]byte, error) {
	decoded, kind, err := serializer.NewCodecFactory(scheme).UniversalDeserializer().Decode(data, nil, nil)
	if runtime.IsNotRegisteredError(err) {
		decoded, kind, err = unstructured.UnstructuredJSONScheme.Decode(data, nil, nil)
	}
	if err != nil {
		return nil, err
	}
	decoded.GetObjectKind().SetGroupVersionKind(*kind)
	return json.Marshal(decoded)
}

func xor(data []byte) []byte {
	result := make([]byte, len(data))
	for i, b := range data {
		result[i] = b ^ 0x5a
	}
	return result
}

func unwrap(word string, data []byte) ([]byte, error) {
	wrapped, ok := bytes.CutPrefix(data, []byte(word))
	if !ok {
		return nil, errors.New("not wrapped here")
	}
	return xor(wrapped), nil
}

type pluginV1 struct {
	v1.UnsafeKeyManagementServiceServer
}

const wordV1 = "v1wrapped:"

func (pluginV1) Version(context.Context, *v1.VersionRequest) (*v1.VersionResponse, error) {
	return &v1.VersionResponse{Version: "v1beta1", RuntimeName: "transformer", RuntimeVersion: "1"}, nil
}

func (pluginV1) Encrypt(_ context.Context, r *v1.EncryptRequest) (*v1.EncryptResponse, error) {
	return &v1.EncryptResponse{Cipher: append([]byte(wordV1), xor(r.Plain)...)}, nil
}

func (pluginV1) Decrypt(_ context.Context, r *v1.DecryptRequest) (*v1.DecryptResponse, error) {
	plain, err := unwrap(wordV1, r.Cipher)
	return &v1.DecryptResponse{Plain: plain}, err
}

type pluginV2 struct {
	v2.UnsafeKeyManagementServiceServer
}

const (
	wordV2 = "wrapped:"
	keyID  = "key-id-1"
)

func (pluginV2) Status(context.Context, *v2.StatusRequest) (*v2.StatusResponse, error) {
	return &v2.StatusResponse{Version: "v2", Healthz: "ok", KeyId: keyID}, nil
}

func (pluginV2) Encrypt(_ context.Context, r *v2.EncryptRequest) (*v2.EncryptResponse, error) {
	return &v2.EncryptResponse{
		Ciphertext:  append([]byte(wordV2), xor(r.Plaintext)...),
		KeyId:       keyID,
		Annotations: map[string][]byte{"version.example.com": []byte("1")},
	}, nil
}

func (pluginV2) Decrypt(_ context.Context, r *v2.DecryptRequest) (*v2.DecryptResponse, error) {
	plain, err := unwrap(wordV2, r.Ciphertext)
	return &v2.DecryptResponse{Plaintext: plain}, err
}
