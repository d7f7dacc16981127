package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"sluice/internal/tlsfile"
)

// needed is what every session has whatever the data source name says: statements and stored values rely on it.
// Anything else, the defaults below for one, the data source name may set.
var needed = map[string]string{
	"autocommit": "1", // else what only reads stays in a transaction, and holds up whoever changes a table
	"time_zone":  "'+00:00'",
	"sql_mode":   "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'",
}

// openMySQL opens a server's database for writing and for reading, so that readers never take the last connection. It
// asks nothing of the server yet.
func openMySQL(dsn string, o *Options) (write, read *sql.DB, err error) {
	cfg, err := sessionConfig(dsn, o)
	if err != nil {
		return nil, nil, err
	}
	if write, err = openPool(cfg, o.Writers); err != nil {
		return nil, nil, err
	}
	read, err = openPool(cfg, o.Readers)
	return write, read, err
}

// sessionConfig is a data source name with all that our sessions need.
func sessionConfig(dsn string, o *Options) (*mysql.Config, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, errors.New("the data source name does not parse (user:password@tcp(host:port)/database)")
	}
	if cfg.DBName == "" {
		return nil, errors.New("the data source name has no database")
	}
	// Parameters in the text: one round trip instead of two. Rows found, not changed: an update that is repeated has found
	// its row. A connection to a server that has become read-only is left for one to the server that took over.
	cfg.InterpolateParams, cfg.ClientFoundRows, cfg.RejectReadOnly = true, true, true
	cfg.Logger = &mysql.NopLogger{}
	cfg.Timeout = defaultTo(cfg.Timeout, 5*time.Second)
	cfg.ReadTimeout = defaultTo(cfg.ReadTimeout, 30*time.Second)
	cfg.WriteTimeout = defaultTo(cfg.WriteTimeout, 30*time.Second)
	params := maps.Clone(defaults)
	maps.Copy(params, cfg.Params)
	maps.Copy(params, needed)
	cfg.Params = params
	return cfg, cfg.Apply(mysql.Charset("utf8mb4", "utf8mb4_bin"), mysql.BeforeConnect(o.beforeConnect))
}

// beforeConnect gives a new connection the password and the TLS configuration of this moment.
func (o *Options) beforeConnect(_ context.Context, cfg *mysql.Config) error {
	if o.Password != nil {
		cfg.Passwd = o.Password()
	}
	if o.TLS.Enabled {
		cfg.TLS = tlsfile.At(o.Secure(), cfg.Addr)
	}
	return nil
}

// defaults are what a session has unless the data source name says otherwise. A server gives a transaction up, and its locks,
// when it has heard nothing of it for wait_timeout seconds: a process that is frozen in the middle of one would hold up all
// others for as long as it is. By itself a server waits for hours.
var defaults = map[string]string{"innodb_lock_wait_timeout": "10", "wait_timeout": "20"}

// idleMax is how long a connection is kept that nobody uses: less than wait_timeout, so that it is still one.
const idleMax = 10 * time.Second

const tlsSection = "store.tls"

// openPool opens conns connections at most. Each is left after ten minutes, so that a server that came back, or one behind
// a load balancer, gets its share.
func openPool(cfg *mysql.Config, conns int) (*sql.DB, error) {
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(committedConnector{connector})
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	db.SetConnMaxLifetime(10 * time.Minute)
	db.SetConnMaxIdleTime(idleMax)
	return db, nil
}

// committedConnector sets READ COMMITTED once per connection; the variable's name differs between MySQL and MariaDB, so
// it cannot be a parameter of the data source name.
type committedConnector struct{ driver.Connector }

func (c committedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	const set = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"
	bound := &boundConn{mysqlConn: conn.(mysqlConn), sales: map[saleKey]preparedStmt{}}
	if _, err := bound.ExecContext(ctx, set, nil); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return bound, nil
}

// place is where a shard lies, without its password.
func (d *dialect) place(shard string) string {
	if d.name == SQLite {
		return shard
	}
	cfg, err := mysql.ParseDSN(shard)
	if err != nil {
		return "a data source name that does not parse" // it may hold a password
	}
	return fmt.Sprintf("%s@%s/%s", cfg.User, cfg.Addr, cfg.DBName)
}

// account finds the user as the server names him in its refusals: he may be known from some hosts only.
var account = regexp.MustCompile(`'[^']*'@'[^']*'`)

// explain says what to do about a MySQL database that cannot be used; other errors stay as they are.
func (o *Options) explain(err error, dsn string) error {
	if err == nil || o.Dialect != MySQL {
		return err
	}
	e, ok := errors.AsType[*mysql.MySQLError](err)
	if !ok {
		if errors.Is(err, mysql.ErrNoTLS) {
			return fmt.Errorf("it speaks no TLS: switch that on there (ssl_cert, ssl_key), or set %s.enabled to false (%w)", tlsSection, err)
		}
		if told := tlsfile.Explain(err, tlsSection, o.TLS.Enabled); told != nil {
			return told
		}
		lost := errors.Is(err, driver.ErrBadConn) || errors.Is(err, mysql.ErrInvalidConn) || strings.HasSuffix(err.Error(), "bad connection")
		if o.TLS.Enabled && lost { // all that the driver says of who hangs up
			return fmt.Errorf("it ends the connection: is it well, and does it take our certificate (%s.certificate_file)? (%w)", tlsSection, err)
		}
		if _, isNet := errors.AsType[net.Error](err); isNet || lost {
			return fmt.Errorf("it does not answer: is it running, and is its address in store.shards right? (%w)", err)
		}
		return err
	}
	cfg, parseErr := mysql.ParseDSN(dsn)
	if parseErr != nil {
		return err
	}
	user := account.FindString(e.Message)
	if user == "" {
		user = "'" + cfg.User + "'@'%'"
	}
	database := "`" + strings.ReplaceAll(cfg.DBName, "`", "``") + "`"
	create := "CREATE DATABASE " + database + " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;"
	grant := "GRANT ALL ON " + database + ".* TO " + user + ";"
	switch e.Number {
	case 1045, 1698:
		wants := ""
		if !o.TLS.Enabled {
			wants = ", or this user must speak TLS (" + tlsSection + ".enabled)"
		}
		return fmt.Errorf("it refuses user %s: the name in store.shards or the password is wrong; "+
			"set SLUICE_STORE_PASSWORD or secrets.store_password_file%s (%w)", user, wants, err)
	case 3159:
		return fmt.Errorf("it takes connections in TLS only: set %s.enabled to true (%w)", tlsSection, err)
	case 1049:
		return fmt.Errorf("it has no database %s; an administrator makes it with: %s %s (%w)", cfg.DBName, create, grant, err)
	case 1044:
		return fmt.Errorf("user %s may not use a database %s; an administrator makes it, if it is not there, with: %s "+
			"and lets the user in with: %s (%w)", user, cfg.DBName, create, grant, err)
	case 1142, 1227:
		return fmt.Errorf("user %s may not do what is needed; an administrator allows it with: %s (%w)", user, grant, err)
	case 1040, 1203, 1226:
		return fmt.Errorf("it has no connection left: raise its max_connections, or lower store.writers and store.readers (%w)", err)
	}
	return err
}
