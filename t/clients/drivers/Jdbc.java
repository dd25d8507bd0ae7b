// SPDX-License-Identifier: ISC
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.util.*;
import org.postgresql.*;

class Jdbc {
	static Connection connect() throws SQLException {
		Map<String, String> e = System.getenv();
		Properties p = new Properties();
		p.setProperty("user", e.get("PGUSER"));
		p.setProperty("password", e.get("PGPASSWORD"));
		p.setProperty("sslmode", "verify-full");
		p.setProperty("sslrootcert", e.get("PGSSLROOTCERT"));
		if (e.containsKey("PGSSLCERT")) {
			p.setProperty("sslcert", e.get("PGSSLCERT"));
			p.setProperty("sslkey", e.get("PGSSLKEY") + ".der"); // PKCS #8
		}
		return DriverManager.getConnection("jdbc:postgresql://" + e.get("PGHOST") + ":" + e.get("PGPORT") + "/" + e.get("PGDATABASE"), p);
	}

	static ResultSet one(Connection c, String sql) throws SQLException {
		ResultSet r = c.createStatement().executeQuery(sql);
		r.next();
		return r;
	}

	static String parameters(Connection c) throws SQLException {
		PreparedStatement s = c.prepareStatement("select ?::text, ?::int, ?::text");
		s.setString(1, "käse 'x'");
		s.setInt(2, 42);
		s.setNull(3, Types.VARCHAR);
		ResultSet r = s.executeQuery();
		r.next();
		return r.getString(1) + "|" + r.getInt(2) + "|" + (r.getString(3) == null ? "NULL" : "");
	}

	static String rows(Connection c) throws SQLException {
		c.setAutoCommit(false); // a cursor, so that not all rows are in memory
		Statement s = c.createStatement();
		s.setFetchSize(1000);
		ResultSet r = s.executeQuery("select repeat(md5(i::text), 320) from generate_series(1, 10000) i");
		long n = 0, bytes = 0;
		for (; r.next(); n++)
			bytes += r.getString(1).length();
		return n + " rows, " + bytes + " bytes";
	}

	static String copy(Connection c) throws Exception {
		var copy = c.unwrap(PGConnection.class).getCopyAPI();
		var in = new StringBuilder();
		for (int i = 0; i < 10000; i++)
			in.append(i + "\tline " + i + "\n");
		c.createStatement().execute("create temp table t (a int, b text)");
		copy.copyIn("copy t from stdin", new StringReader(in.toString()));
		var out = new StringWriter();
		copy.copyOut("copy (select * from t order by a) to stdout", out);
		String[] lines = out.toString().split("\n");
		return lines.length + " lines, last " + lines[lines.length - 1];
	}

	static String error(Connection c) throws SQLException {
		try {
			one(c, "select 1/0");
			return "no error";
		} catch (SQLException e) {
			return e.getSQLState() + " then " + one(c, "select 1").getInt(1);
		}
	}

	static String notify(Connection c) throws SQLException {
		c.createStatement().execute("listen c");
		connect().createStatement().execute("notify c, 'hello'");
		PGNotification n = c.unwrap(PGConnection.class).getNotifications(0)[0];
		return n.getName() + " " + n.getParameter();
	}

	// A request that comes before the query has no effect: repeat it.
	static String cancel(Connection c) throws Exception {
		Statement s = c.createStatement();
		Timer timer = new Timer(true);
		timer.schedule(new TimerTask() {
			public void run() {
				try { s.cancel(); } catch (SQLException e) { }
			}
		}, 100, 100);
		try {
			s.executeQuery("select pg_sleep(60)");
			return "no error";
		} catch (SQLException e) {
			return e.getSQLState();
		} finally {
			timer.cancel();
		}
	}

	static int many() throws SQLException {
		var connections = new ArrayList<Connection>();
		var pids = new HashSet<Integer>();
		for (int i = 0; i < 50; i++)
			connections.add(connect());
		for (Connection c : connections)
			pids.add(one(c, "select pg_backend_pid()").getInt(1));
		return pids.size();
	}

	static Object run(String check) throws Exception {
		Connection c = connect();
		switch (check) {
			case "connected": return one(c, "select current_user").getString(1);
			case "parameters": return parameters(c);
			case "rows": return rows(c);
			case "copy": return copy(c);
			case "error": return error(c);
			case "notify": return notify(c);
			case "cancel": return cancel(c);
			default: return many();
		}
	}

	public static void main(String[] checks) throws Exception {
		var out = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
		for (String check : checks) {
			try {
				out.println(check + " " + run(check));
			} catch (SQLException e) {
				out.println(check + " failed: " + e.getSQLState() + " " + e.getMessage().replaceAll("\\s+", " ")
					+ (e.getCause() == null ? "" : " " + e.getCause().getMessage().replaceAll("\\s+", " ")));
			}
		}
	}
}
