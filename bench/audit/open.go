package audit

import (
	"context"
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "modernc.org/sqlite" // the driver "sqlite" of database/sql
)

// openReadOnly opens one database so that nothing can be written through it, with a consistent snapshot begun on the
// one connection that is used.
func openReadOnly(ctx context.Context, dialect, place string, secure *tls.Config) (*sql.DB, *sql.Conn, error) {
	db, begin, err := open(dialect, place, secure)
	if err != nil {
		return nil, nil, err
	}
	conn, err := db.Conn(ctx)
	for i := 0; err == nil && i < len(begin); i++ {
		_, err = conn.ExecContext(ctx, begin[i])
	}
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, conn, nil
}

func open(dialect, place string, secure *tls.Config) (db *sql.DB, begin []string, err error) {
	if dialect == "mysql" {
		cfg, err := mysql.ParseDSN(place)
		if err != nil {
			return nil, nil, errors.New("the data source name does not parse (user:password@tcp(host:port)/database)")
		}
		cfg.Timeout, cfg.InterpolateParams, cfg.TLS = 5*time.Second, true, secure
		connector, err := mysql.NewConnector(cfg)
		if err != nil {
			return nil, nil, err
		}
		return sql.OpenDB(connector), []string{
			"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
			"START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
		}, nil
	}
	path, err := filepath.Abs(place)
	if err != nil {
		return nil, nil, err
	}
	if _, err := os.Stat(path); err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", place, err)
	}
	file := (&url.URL{Scheme: "file", Path: path}).String()
	db, err = sql.Open("sqlite", file+"?mode=ro&_pragma=query_only(1)&_pragma=busy_timeout(10000)&_pragma=cache_size(-65536)")
	return db, []string{"BEGIN"}, err
}
