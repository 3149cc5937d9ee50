INSERT INTO operations (operation) VALUES (:operation);
