// JDBC with HikariCP behind com.sun.net.httpserver. POOL is the size of the pool.
import com.sun.net.httpserver.HttpServer;
import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.net.InetSocketAddress;
import java.net.URI;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.Map;
import java.util.concurrent.Executors;

public class Shop {
    static HikariDataSource pool;

    interface Work {
        void run(Connection connection) throws SQLException;
    }

    interface Operation {
        void run() throws SQLException;
    }

    static void insert(Connection connection) throws SQLException {
        try (PreparedStatement select = connection.prepareStatement("SELECT coalesce(max(number), 0) + 1 FROM orders");
                ResultSet rows = select.executeQuery();
                PreparedStatement insert = connection.prepareStatement("INSERT INTO orders (number) VALUES (?)")) {
            rows.next();
            insert.setInt(1, rows.getInt(1));
            insert.executeUpdate();
        }
    }

    static void insertLocked(Connection connection) throws SQLException {
        try (PreparedStatement lock = connection.prepareStatement("SELECT pg_advisory_xact_lock(42)")) {
            lock.execute();
        }
        insert(connection);
    }

    static void autocommit(Work work) throws SQLException {
        try (Connection connection = pool.getConnection()) {
            work.run(connection);
        }
    }

    static void transaction(Work work) throws SQLException {
        try (Connection connection = pool.getConnection()) {
            connection.setAutoCommit(false);
            try {
                work.run(connection);
                connection.commit();
            } catch (SQLException error) {
                connection.rollback();
                throw error;
            }
        }
    }

    static void insertAgainAndAgain() throws SQLException {
        for (int tries = 1;; tries++) {
            try {
                transaction(Shop::insert);
                return;
            } catch (SQLException error) {
                if (tries == 10 || !error.getSQLState().equals("23505")) {
                    throw error;
                }
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        URI url = new URI(System.getenv("DATABASE_URL"));
        String[] user = url.getUserInfo().split(":");
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl("jdbc:postgresql://" + url.getHost() + ":" + url.getPort() + url.getPath());
        config.setUsername(user[0]);
        config.setPassword(user.length > 1 ? user[1] : "");
        config.setMaximumPoolSize(Integer.parseInt(System.getenv().getOrDefault("POOL", "4")));
        pool = new HikariDataSource(config);

        Map<String, Operation> operations = Map.of(
                "/orders", () -> transaction(Shop::insert),
                "/orders/autocommit", () -> autocommit(Shop::insert),
                "/orders/locked", () -> transaction(Shop::insertLocked),
                "/orders/unique", Shop::insertAgainAndAgain);
        HttpServer server = HttpServer.create(
                new InetSocketAddress("127.0.0.1", Integer.parseInt(System.getenv("PORT"))), 0);
        server.createContext("/", exchange -> {
            byte[] body = "created".getBytes();
            int status = 201;
            try {
                exchange.getRequestBody().readAllBytes();
                operations.get(exchange.getRequestURI().getPath()).run();
            } catch (Exception error) {
                body = error.toString().getBytes();
                status = 500;
            }
            exchange.sendResponseHeaders(status, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.start();
    }
}
