package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sluice/configs"
	"sluice/engine/order"
	"sluice/gateway"
)

func newToken(s *settings) *cobra.Command {
	var user string
	var ttl time.Duration
	var service bool
	cmd := &cobra.Command{
		Use:   "token (--user ID [--ttl 1h] | --service)",
		Short: "Mint a buyer's token with the configured secret, or print the service token",
		Args:  takes(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if service == (user != "") {
				return errors.New("say whose token: either --user ID, for a buyer, or --service, for the shop's own servers")
			}
			c, _, err := s.load()
			if err != nil {
				return err
			}
			secrets, err := loadSecrets(c)
			if err != nil {
				return err
			}
			token := secrets.ServiceToken
			if !service {
				if token, err = userToken(secrets, user, ttl); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token)
			return err
		},
	}
	cmd.Flags().StringVar(&user, "user", "", "user id, a positive number")
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long the token is valid")
	cmd.Flags().BoolVar(&service, "service", false, "print the service token, which may act for any user")
	return cmd
}

func userToken(secrets *configs.Secrets, user string, ttl time.Duration) (string, error) {
	id, ok := order.ParseID(user)
	if !ok {
		return "", fmt.Errorf("--user must be a positive number below 2^63, not %q", user)
	}
	if ttl <= 0 {
		return "", errors.New("--ttl must be positive")
	}
	return gateway.MintToken(secrets.JWT, order.UserID(id), time.Now().Add(ttl)), nil
}

// loadSecrets finds the secrets for a command that is not the server: none are generated.
func loadSecrets(c *configs.Config) (*configs.Secrets, error) {
	secrets, err := c.LoadSecrets(os.Environ(), false)
	if err != nil {
		return nil, err
	}
	if secrets.JWT == "" || secrets.OpsToken == "" || secrets.ServiceToken == "" {
		return nil, fmt.Errorf("%w in data directory %s: start `sluice serve` once, which generates them, "+
			"or name the server's directory with -c or --set data_dir=DIR, or set SLUICE_JWT_SECRET, SLUICE_OPS_TOKEN and SLUICE_SERVICE_TOKEN", configs.ErrNoSecrets, c.DataDir)
	}
	return secrets, nil
}
