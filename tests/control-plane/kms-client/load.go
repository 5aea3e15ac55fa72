package client

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"k8s.io/kms/pkg/service"
)

type report struct {
	Calls  int `json:"calls"`
	Failed int `json:"failed"`
	// The first ones.
	Errors []string `json:"errors"`
	// From the time at which a call was due to its answer, in milliseconds.
	Median float64 `json:"median"`
	P99    float64 `json:"p99"`
	Worst  float64 `json:"worst"`
	// When the first call after the last failed one was answered, in milliseconds since 1970.
	Recovered int64 `json:"recovered"`
}

func load(plugin, rate string) (*report, error) {
	perSecond, err := strconv.Atoi(rate)
	if err != nil {
		return nil, err
	}
	client, err := dial(plugin)
	if err != nil {
		return nil, err
	}
	stored, err := client.Encrypt(context.Background(), "4f1b2c", seed)
	if err != nil {
		return nil, err
	}
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()

	var calls sync.WaitGroup
	var lock sync.Mutex
	result := &report{Errors: []string{}}
	var took []float64
	ticker := time.NewTicker(time.Second / time.Duration(perSecond))
	defer ticker.Stop()
	for number := 0; ; number++ {
		var due time.Time
		select {
		case due = <-ticker.C:
		case <-stop:
			calls.Wait()
			result.Calls = len(took)
			slices.Sort(took)
			if len(took) > 0 {
				result.Median = took[len(took)/2]
				result.P99 = took[len(took)*99/100]
				result.Worst = took[len(took)-1]
			}
			return result, nil
		}
		calls.Add(1)
		go func() {
			defer calls.Done()
			err := call(client, number, stored)
			lock.Lock()
			defer lock.Unlock()
			took = append(took, float64(time.Since(due).Microseconds())/1000)
			if err == nil && result.Recovered == 0 {
				result.Recovered = time.Now().UnixMilli()
			}
			if err != nil {
				result.Recovered = 0
				result.Failed++
				if len(result.Errors) < 5 {
					result.Errors = append(result.Errors, err.Error())
				}
			}
		}()
	}
}

func call(client service.Service, number int, stored *service.EncryptResponse) error {
	ctx := context.Background()
	switch number % 3 {
	case 0:
		_, err := client.Status(ctx)
		return err
	case 1:
		_, err := client.Encrypt(ctx, "4f1b2c", seed)
		return err
	default:
		opened, err := client.Decrypt(ctx, "4f1b2d", &service.DecryptRequest{
			Ciphertext:  stored.Ciphertext,
			KeyID:       stored.KeyID,
			Annotations: stored.Annotations,
		})
		if err == nil && !bytes.Equal(opened, seed) {
			return fmt.Errorf("another plaintext")
		}
		return err
	}
}
